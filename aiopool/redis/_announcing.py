"""Releases told to the listeners of redis-py's `AsyncAfterConnectionReleasedEvent`."""

from asyncio import get_running_loop
from math import inf
from types import CoroutineType
from typing import Any

from redis.event import AsyncAfterConnectionReleasedEvent, AsyncReAuthConnectionListener

from aiopool._places import Places

from ._connection import Accountable
from ._connector import RedisConnector, announcing
from ._core import RedisCore
from ._policy import RedisPolicy


class AnnouncingCore(RedisCore):
    """A core for pools that were given an event dispatcher.

    Who is told of a release may want to use the connection. So it is told by the connector's check,
    while nobody else has the connection.
    """

    def __init__(
        self, connector: RedisConnector, policy: RedisPolicy, dispatcher: object, **options: Any
    ) -> None:
        super().__init__(connector, policy, **options)
        self._dispatcher = dispatcher

    def release(self, conn: Accountable) -> "CoroutineType[Any, Any, None]":
        """As `Pool.release`."""
        places = self._places
        here = places is not None and places.loop is get_running_loop()
        # What a listener itself lends and gives back is announced to nobody, or it would never end.
        if places is not None and here and not announcing.get():
            self._have_announced(places, conn)
        return super().release(conn)  # type: ignore[return-value]  # mypy calls it a Coroutine

    def back_from_a_lane(self, places: Places[Accountable], conn: Accountable) -> None:
        """As `RedisCore`. No command of a listener's was on the lane: those don't share."""
        self._have_announced(places, conn)
        super().back_from_a_lane(places, conn)

    def _have_announced(self, places: Places[Accountable], conn: Accountable) -> None:
        entry = places.lent.get(id(conn))
        if entry is not None and _listened_to(self._dispatcher):
            conn.released = True
            entry.fresh_until = -inf


def _listened_to(dispatcher: object) -> bool:
    """Whether anybody listens but redis-py's own re-authentication, which is the connector's here."""
    # There is no public way to know. Of a dispatcher of another make it is supposed.
    listeners: dict[object, list[object]] | None
    listeners = getattr(dispatcher, "_event_listeners_mapping", None)
    return listeners is None or any(
        not isinstance(listener, AsyncReAuthConnectionListener)
        for listener in listeners.get(AsyncAfterConnectionReleasedEvent, ())
    )
