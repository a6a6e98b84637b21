"""The clock that jumps, which the benchmarks have too, and what else tests do with time."""

import asyncio

from benchmarks.clock import STANDSTILL, Deadlock, JumpingLoop, Standstill

__all__ = ["STANDSTILL", "Deadlock", "JumpingLoop", "Standstill", "turns"]


async def turns(number: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(number):
        await asyncio.sleep(0)
