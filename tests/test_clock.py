"""The jumping clock itself."""

import asyncio
from random import Random

import pytest
from clock import STANDSTILL, Deadlock, JumpingLoop, Standstill, turns


async def test_time_jumps_to_the_next_timer_exactly():
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.sleep(3600.1)
    assert loop.time() == start + 3600.1


def test_what_takes_no_time_can_be_run_alone_and_time_be_let_pass_up_to_a_limit():
    log = []

    async def work() -> None:
        await asyncio.sleep(0)
        log.append("ready")
        await asyncio.sleep(3)
        log.append("later")

    loop = JumpingLoop()
    task = loop.create_task(work())
    loop.settle()
    assert (log, loop.time()) == (["ready"], 1000)
    loop.jump(1002.5)
    loop.settle()
    assert (log, loop.time()) == (["ready"], 1002.5)
    loop.jump(1005)
    loop.settle()
    assert (log, loop.time()) == (["ready", "later"], 1003)
    loop.jump(1005)
    assert (task.done(), loop.time()) == (True, 1005)
    loop.close()


def test_timers_within_the_resolution_of_the_next_run_with_it():
    async def sleep(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time() - 1000

    async def all_three() -> list[float]:
        return await asyncio.gather(sleep(1.0), sleep(1.4), sleep(1.6))

    with asyncio.Runner(loop_factory=lambda: JumpingLoop(resolution=0.5)) as runner:
        assert runner.run(all_three()) == pytest.approx([1.0, 1.0, 1.6])


def test_a_test_in_which_everybody_waits_fails_as_deadlock():
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with (
        pytest.raises(Deadlock, match="everybody waits and no timer is set"),
        asyncio.Runner(loop_factory=JumpingLoop) as runner,
    ):
        runner.run(wait())


def test_a_test_that_never_comes_to_rest_fails_as_standstill():
    async def spin() -> None:
        await turns(STANDSTILL + 1)

    with (
        pytest.raises(Standstill, match="turns of the loop, and still it is 1000"),
        asyncio.Runner(loop_factory=JumpingLoop) as runner,
    ):
        runner.run(spin())


def test_a_watch_that_fails_fails_the_test():
    async def wait() -> None:
        await asyncio.sleep(1)

    def watch() -> None:
        msg = "a rule is broken"
        raise AssertionError(msg)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        loop = runner.get_loop()
        loop.watches.append(watch)
        with pytest.raises(AssertionError, match="a rule is broken"):
            runner.run(wait())
        loop.watches.clear()


def test_what_is_ready_in_one_turn_runs_in_any_order_but_none_in_a_later_turn():
    async def race(log: list[str]) -> None:
        async def run(name: str) -> None:
            for step in range(3):
                log.append(f"{name}{step}")
                await asyncio.sleep(0)

        await asyncio.gather(*(run(name) for name in "abc"))

    orders = set()
    for seed in range(200):
        log: list[str] = []
        loop = JumpingLoop(Random(seed))
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:
            runner.run(race(log))
        assert [entry[1] for entry in log] == list("000111222"), "a step in another's turn"
        orders.add("".join(entry[0] for entry in log[:3]))
    assert len(orders) == 6, orders
