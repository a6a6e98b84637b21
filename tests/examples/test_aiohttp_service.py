"""The chat of docs/examples/aiohttp_service.py, in processes of its own, on a real server."""

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
import redis
from aiohttp import web

from aiopool._cli._redis_server import free_port, redis_server

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "aiohttp_service.py"
SIZE = 5  # of the example's pool


class Service:
    """A process of it."""

    def __init__(self, redis_url):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._told = False
        self._process = subprocess.Popen(  # noqa: S603 - the example
            [sys.executable, "-W", "error", str(SCRIPT), "--port", str(self.port)],
            env=os.environ | {"REDIS_URL": redis_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_up(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                assert self._process.poll() is None, self._process.communicate()[1]
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.02)
            else:
                return

    def terminate(self):
        if not self._told:  # a second time would be an order to end at once
            self._told = True
            self._process.terminate()

    def wait(self):
        return self._process.wait(30)

    def end(self):
        """Wait until it ends; gives its status, and what it has said."""
        try:
            said = self._process.communicate(timeout=30)[1]
        finally:
            self._process.kill()
        return self._process.returncode, said


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture
def admin(server):
    with redis.Redis.from_url(server, decode_responses=True, client_name="admin") as admin:
        admin.flushall()
        yield admin


@contextmanager
def running(server, admin, number=1, *, says="") -> Iterator[list[Service]]:
    """Run processes, which have to end well, to say no more than this, and to leave no connection."""
    services = [Service(server) for _ in range(number)]
    try:
        for service in services:
            service.wait_until_up()
        yield services
    finally:
        for service in services:
            service.terminate()
        ends = [service.end() for service in services]
    assert [status for status, _ in ends] == [0] * number
    unexpected = [
        line for _, said in ends for line in said.splitlines() if not says or says not in line
    ]
    assert not unexpected
    assert others(admin) == []


def others(admin):
    return [client for client in admin.client_list() if client["name"] != "admin"]


@asynccontextmanager
async def browser():
    # Around all: timeouts of receive() begin anew with each heartbeat.
    async with asyncio.timeout(40), aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(scope="module")
def chat():
    """The module itself."""
    spec = importlib.util.spec_from_file_location("chat_example", SCRIPT)
    chat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chat)
    return chat


@asynccontextmanager
async def served(app, admin):
    """Serve it in this process, to the session that this gives; it leaves no connection."""
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await eventually(lambda: admin.pubsub_numpat() == 1)  # it hears
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with asyncio.timeout(30), aiohttp.ClientSession(url) as session:
            yield session
    finally:
        await runner.cleanup()
    await eventually(lambda: others(admin) == [])


async def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        await asyncio.sleep(0.005)


async def say(session, service, text, room="tea"):
    form = {"name": "ann", "text": text}
    async with session.post(f"{service.url}/rooms/{room}/messages", data=form) as answer:
        return answer.status, await answer.json() if answer.status == 201 else answer.headers


async def texts(websocket, number):
    return [(await websocket.receive_json())["text"] for _ in range(number)]


# ---- what it does --------------------------------------------------------------------------------


def test_what_is_said_in_one_process_is_heard_in_all_and_remembered(server, admin):
    async def scenario(here, there):
        async with browser() as session:
            status, said = await say(session, here, "first")
            assert status == 201
            ann = await session.ws_connect(f"{here.url}/rooms/tea?name=ann")
            bob = await session.ws_connect(f"{there.url}/rooms/tea?name=bob")
            first = {"id": said["id"], "name": "ann", "text": "first"}
            assert await ann.receive_json() == first
            assert await bob.receive_json() == first
            await say(session, here, "not here", room="coffee")
            await bob.send_str("grüß dich")
            heard = [await each.receive_json() for each in (ann, bob)]
            assert heard[0] == heard[1]
            assert (heard[0]["name"], heard[0]["text"]) == ("bob", "grüß dich")
            async with session.get(f"{there.url}/rooms/tea/messages") as answer:
                assert await answer.json() == [first, heard[0]]

    with running(server, admin, 2) as services:
        asyncio.run(scenario(*services))


def test_all_sockets_share_one_subscription_and_a_small_pool(server, admin):
    async def scenario(service):
        async with browser() as session:
            sockets = [await session.ws_connect(f"{service.url}/rooms/{n}") for n in range(30)]
            await asyncio.gather(*(each.send_str(f"{n}") for n, each in enumerate(sockets)))
            heard = [await texts(each, 1) for each in sockets]
            assert heard == [[f"{n}"] for n in range(30)]  # each in a room of its own
            subscribers = [each for each in others(admin) if each["psub"] != "0"]
            assert len(subscribers) == 1
            assert len(others(admin)) <= SIZE
            async with session.get(f"{service.url}/health") as answer:
                health = await answer.json()
            assert (health["listeners"], health["lent"]) == (30, 1)
            for each in sockets:
                await each.close()
            async with session.get(f"{service.url}/health") as answer:
                assert (await answer.json())["listeners"] == 0

    with running(server, admin) as [service]:
        asyncio.run(scenario(service))


def test_who_comes_in_while_others_talk_hears_each_message_once(server, admin):
    async def scenario(service):
        async with browser() as session:

            async def talk():
                for number in range(150):
                    await say(session, service, f"{number}")

            async def come_in():
                websocket = await session.ws_connect(f"{service.url}/rooms/tea")
                heard = [int(text) for text in await texts(websocket, 1)]
                while heard[-1] < 149:
                    heard += [int(text) for text in await texts(websocket, 1)]
                assert heard == list(range(heard[0], 150))
                await websocket.close()

            talking = asyncio.create_task(talk())
            await eventually(lambda: admin.xlen("room:tea") >= 30)
            await asyncio.gather(talking, *(come_in() for _ in range(10)))

    with running(server, admin) as [service]:
        asyncio.run(scenario(service))


def test_of_a_room_about_a_thousand_messages_are_remembered(chat, server, admin):
    async def scenario():
        adding = admin.pipeline()
        for number in range(1500):
            adding.xadd("room:tea", {"name": "ann", "text": f"{number}"})
        adding.execute()
        async with served(chat.make_app(server), admin) as session:
            await session.post("/rooms/tea/messages", data={"text": "last"})
        assert admin.xrevrange("room:tea", count=1)[0][1]["text"] == "last"
        assert 1000 <= admin.xlen("room:tea") < 1200

    asyncio.run(scenario())


def test_all_of_many_messages_that_come_at_once_are_heard(chat, server, admin):
    async def scenario():
        async with served(chat.make_app(server), admin) as session:
            bob = await session.ws_connect("/rooms/tea")
            with admin.pipeline() as transaction:
                for number in range(1, 401):
                    message = {"id": f"1-{number}", "name": "ann", "text": f"{number}"}
                    transaction.publish("room:tea", json.dumps(message))
                transaction.execute()
            assert await texts(bob, 400) == [f"{number}" for number in range(1, 401)]

    asyncio.run(scenario())


# ---- in trouble ----------------------------------------------------------------------------------


def test_who_gets_no_connection_is_told_so_and_can_try_again(server, admin):
    async def scenario(service):
        async with browser() as session:
            bob = await session.ws_connect(f"{service.url}/rooms/tea?name=bob")
            admin.client_pause(60_000, all=False)  # writes only, so that it can be ended
            asked = [asyncio.create_task(say(session, service, f"{n}")) for n in range(SIZE - 1)]
            await eventually(lambda: admin.info("clients")["blocked_clients"] == len(asked))
            status, headers = await say(session, service, "in vain")
            assert (status, headers["Retry-After"].isdecimal()) == (503, True)
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await session.ws_connect(f"{service.url}/rooms/tea")
            await bob.send_str("in vain")
            assert await bob.receive_json() == {"error": "busy: this was not said"}
            admin.client_unpause()
            assert {status for status, _ in await asyncio.gather(*asked)} == {201}
            await bob.send_str("at last")
            assert sorted(await texts(bob, SIZE)) == ["0", "1", "2", "3", "at last"]

    with running(server, admin, says="no connection within 1 s") as [service]:
        asyncio.run(scenario(service))


def test_a_lost_subscription_loses_no_message(server, admin):
    async def scenario(service):
        async with browser() as session:
            bob = await session.ws_connect(f"{service.url}/rooms/tea?name=bob")
            for number in range(5):
                admin.client_kill_filter(_type="pubsub")
                await say(session, service, f"{number}")
            assert await texts(bob, 5) == ["0", "1", "2", "3", "4"]

    with running(server, admin) as [service]:
        asyncio.run(scenario(service))


def test_what_others_publish_that_is_no_message_is_passed_over(chat, server, admin, caplog):
    foreign = ["hello", "1", "[1]", '{"text": "x"}', '{"id": 5}', '{"id": "x"}', b"\xff\xfe"]

    async def scenario():
        async with served(chat.make_app(server), admin) as session:
            bob = await session.ws_connect("/rooms/tea")
            for each in foreign:
                assert admin.publish("room:tea", each) == 1
            await session.post("/rooms/tea/messages", data={"text": "still here"})
            assert await texts(bob, 1) == ["still here"]

    asyncio.run(scenario())
    assert caplog.messages == []


def test_after_a_refused_subscription_it_tries_again_in_a_second(chat, server, admin, caplog):
    async def scenario():
        async with served(chat.make_app(server), admin) as session:
            bob = await session.ws_connect("/rooms/tea")
            admin.acl_setuser("default", enabled=True, reset_channels=True)
            try:
                begun = time.monotonic()
                admin.client_kill_filter(_type="pubsub")
                await eventually(lambda: caplog.records)
            finally:
                admin.execute_command("ACL", "SETUSER", "default", "allchannels")
            await session.post("/rooms/tea/messages", data={"text": "once more"})
            assert await texts(bob, 1) == ["once more"]
            assert time.monotonic() - begun > 0.9

    asyncio.run(scenario())
    assert caplog.messages == ["nothing can be heard; it tries again in a second"]


def test_a_form_that_can_not_be_read_is_answered_400(chat, server, admin):
    urlencoded = "application/x-www-form-urlencoded"

    async def scenario():
        async with served(chat.make_app(server), admin) as session:

            async def post(data, charset=None):
                headers = charset and {"Content-Type": f"{urlencoded}; charset={charset}"}
                async with session.post(
                    "/rooms/tea/messages", data=data, headers=headers
                ) as answer:
                    return answer.status

            for field in ("name", "text"):
                form = aiohttp.FormData()
                form.add_field(field, b"data", filename="file.txt")
                assert await post(form) == 400
            assert await post(b"text=a", "nonsense") == 400
            assert await post(b"text=\xff", "utf-8") == 400
            assert await post(b"text=a", "utf-8") == 201
        assert [said["text"] for _, said in admin.xrange("room:tea")] == ["a"]

    asyncio.run(scenario())


def test_who_leaves_before_being_told_of_an_error_leaves_none(chat, server, admin, caplog):
    async def scenario():
        app = chat.make_app(server)
        async with served(app, admin) as session:
            bob = await session.ws_connect("/rooms/tea")
            pool = app[chat.POOL]
            async with AsyncExitStack() as busy:
                for _ in range(SIZE - 1):
                    await busy.enter_async_context(pool.connection())
                await bob.send_str("in vain")
                await eventually(lambda: pool.stats().waiting)
                bob._response.connection.transport.abort()
                await eventually(lambda: not app[chat.CHAT].listeners())

    asyncio.run(scenario())
    assert not [record for record in caplog.records if record.exc_info]


def test_a_socket_that_is_too_far_behind_is_closed(chat):
    class Socket:
        def __init__(self):
            self.sent = []

        async def send_json(self, message):
            self.sent.append(message["id"])

        async def close(self, code):
            self.sent.append(code)

    async def scenario(told, sent):
        listener, socket = chat.Listener(), Socket()
        for number in range(1, told + 1):
            listener.tell({"id": f"1-{number}"})
        sending = asyncio.create_task(listener.send(socket, [{"id": "1-0"}]))
        await eventually(lambda: len(socket.sent) == sent)
        sending.cancel()
        await asyncio.wait([sending])
        return socket.sent

    assert asyncio.run(scenario(100, 101)) == [f"1-{number}" for number in range(101)]
    assert asyncio.run(scenario(101, 2)) == ["1-0", 1013]


def test_sigterm_closes_the_sockets_and_ends_it(server, admin):
    async def scenario(service):
        async with browser() as session:
            sockets = [await session.ws_connect(f"{service.url}/rooms/tea") for _ in range(3)]
            service.terminate()
            for each in sockets:
                assert (await each.receive()).data == 1001  # going away

    with running(server, admin) as [service]:
        asyncio.run(scenario(service))


def test_it_ends_soon_while_redis_hangs(server, admin):
    async def scenario(service):
        async with browser() as session:
            sockets = [await session.ws_connect(f"{service.url}/rooms/tea") for _ in range(3)]
            process = admin.info("server")["process_id"]
            os.kill(process, signal.SIGSTOP)
            try:
                for each in sockets:
                    await each.send_str("in vain")
                begun = time.monotonic()
                service.terminate()
                assert await asyncio.to_thread(service.wait) == 0
                assert time.monotonic() - begun < 5
            finally:
                os.kill(process, signal.SIGCONT)
            await eventually(lambda: others(admin) == [])

    with running(server, admin, says="no connection within 1 s") as [service]:
        asyncio.run(scenario(service))


def test_it_does_not_start_without_redis():
    service = Service(f"redis://127.0.0.1:{free_port()}")
    status, said = service.end()
    assert status == 1
    assert "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1" in said
