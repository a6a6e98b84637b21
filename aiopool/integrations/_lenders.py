"""What an integration may be given: whatever lends connections, or a client of that."""

from typing import Any, TypeAlias

from aiopool import Pool, RedisCluster, RedisPool, View
from aiopool.redis._view import RedisView

Lender: TypeAlias = Pool[Any] | View[Any] | RedisPool


def lender(given: object) -> Lender | RedisCluster:
    """Give what is to be observed, which is a client's pool if it is a client.

    Raises:
        TypeError: It is neither; the message has its type, as it may know secrets itself.

    """
    if isinstance(given, RedisCluster):
        return given
    found: object = getattr(given, "connection_pool", given)
    if isinstance(found, Pool | View | RedisPool):
        return found  # pyright: ignore[reportUnknownVariableType] - of any connections
    what = kind_of(given)
    if found is not given:
        what += f" whose pool is a {_name(type(found))}"
    msg = (
        "pool must be a Pool, RedisPool or SentinelPool of aiopool, a view or a client of one, "
        f"or an aiopool.RedisCluster, not {what}"
    )
    raise TypeError(msg)


def is_view(pool: Lender) -> bool:
    """Whether what this lends is lent by another pool as well."""
    return isinstance(pool, View | RedisView)


def kind_of(given: object) -> str:
    """Say what this is, but nothing that it knows, which may be secrets."""
    return f"the class {_name(given)}" if isinstance(given, type) else _name(type(given))


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
