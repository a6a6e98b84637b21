"""Pub/sub as server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import HTTPException
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

KEEP_ALIVE = 15.0  # seconds of silence
PATIENCE = 5.0  # seconds that a subscription may take


class Events:
    """Streams of what is published, each of which has a connection for as long as it lasts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis  # of a view, so that streams can't take all connections
        self.stopping = asyncio.Event()
        self._open: set[PubSub] = set()

    async def subscribed(self, channel: str) -> AsyncIterator[PubSub]:
        """Subscribe before the response begins, and end that after it, however it ends; a dependency.

        Raises:
            HTTPException: The service stops: 503.

        """
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            await pubsub.get_message(timeout=PATIENCE)  # which says that it is done
            if self.stopping.is_set():
                raise HTTPException(503, "stopping")
            self._open.add(pubsub)
            try:
                yield pubsub
            finally:
                self._open.discard(pubsub)

    async def stream(self, pubsub: PubSub) -> AsyncIterator[str]:
        """Give the text of a response, until nothing is subscribed to any more."""
        yield ": subscribed\n\n"
        while pubsub.subscribed:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=KEEP_ALIVE)
            # The comment finds out who has gone without a word.
            yield f"data: {message['data']}\n\n" if message else ":\n\n"

    async def end(self) -> None:
        """End all streams once the service stops; the server would wait for them."""
        await self.stopping.wait()
        ends = [pubsub.unsubscribe() for pubsub in self._open]
        await asyncio.gather(*ends, return_exceptions=True)
