"""The upkeep on real time and a real server: what the server sees of it."""

from servers import STRICT, Server, eventually

from aiopool import RedisPool


async def test_idle_connections_are_closed_down_to_min_size_without_traffic(server: Server):
    async with RedisPool(server.url, max_idle=0.1, min_size=2, **STRICT) as pool:
        await pool.warm(7)
        assert len(server.clients()) == 7
        await eventually(lambda: len(server.clients()) == 2, "two are left")
        assert pool.stats().closed == {"max_idle": 5}
        left = {client["id"] for client in server.clients()}
        # Those two stay, and they are the ones in use.
        for _ in range(3):
            assert str(await pool.client().client_id()) in left
        assert pool.stats().opened == 7


async def test_connections_that_have_lived_long_enough_are_replaced_without_traffic(
    server: Server,
):
    async with RedisPool(server.url, max_lifetime=0.1, min_size=2, **STRICT) as pool:
        first = {client["id"] for client in server.clients()}
        assert len(first) == 2
        await eventually(
            lambda: (
                len(now := {client["id"] for client in server.clients()}) == 2 and not now & first
            ),
            "two others are open",
        )
        assert pool.stats().closed["max_lifetime"] >= 2


async def test_lent_connections_are_not_closed_for_their_age(server: Server):
    async with RedisPool(server.url, max_idle=0.05, max_lifetime=0.05, **STRICT) as pool:
        async with pool.connection() as conn:
            await pool.warm(4)
            await eventually(lambda: len(server.clients()) == 1, "the idle ones are closed")
            await conn.send_command("ECHO", "mine")
            assert await conn.read_response() == b"mine"
        assert pool.stats().closed["max_lifetime"] == 4
