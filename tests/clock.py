"""The clock that jumps, which the benchmarks have too, and what else tests do with time."""

import asyncio

from benchmarks.clock import STANDSTILL, Deadlock, JumpingLoop, Standstill

__all__ = ["STANDSTILL", "Deadlock", "JumpingLoop", "Standstill", "elsewhere", "turns"]


async def turns(number: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)


async def elsewhere(acquiring):
    """Acquire in another task, so that this one may wait for what that one has without a deadlock."""
    return await asyncio.create_task(acquiring)
