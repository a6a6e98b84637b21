"""What the nodes of a cluster have in common: the options of their pools."""

from contextvars import Context, copy_context
from typing import Any

from aiopool._events import Listener
from aiopool._limits import Limits, flag, whole


class Settings:
    """The options for each node, present and future."""

    def __init__(
        self, pool: dict[str, Any], lanes: int | None, max_in_flight: int, share_scripts: bool
    ) -> None:
        """Check all options now, rather than when the first node is known.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option has the wrong type.

        """
        Limits(**pool)
        self.pool: dict[str, Any] = pool  # `RedisPool`'s keywords
        self.listeners: list[Listener] = []
        self.context: Context = copy_context()  # in which connections are opened
        self.sharing: dict[str, Any] | None = None  # `pipelined()`'s; None: no command shares
        whole("max_in_flight", max_in_flight, 1)
        flag("share_scripts", share_scripts)
        if lanes is not None:
            self.sharing = {
                "lanes": whole("lanes", lanes, 1, pool["max_size"]),
                "max_in_flight": max_in_flight,
                "share_scripts": share_scripts,
            }

    def resize(self, max_size: int | None, min_size: int | None) -> None:
        """Change the size of pools yet to be made."""
        changes: dict[str, Any] = {"max_size": max_size, "min_size": min_size}
        changed = self.pool | {name: size for name, size in changes.items() if size is not None}
        Limits(**changed)
        self.pool = changed
