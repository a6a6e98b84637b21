"""The pool's policy where it lends redis-py's connections: redis-py's errors, retries and telemetry."""

from collections.abc import Iterator
from ssl import SSLCertVerificationError

from redis.asyncio.retry import Retry
from redis.exceptions import AuthenticationError, AuthorizationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiopool._events import Events
from aiopool._policy import LOST, Policy

from ._connection import Accountable
from ._errors import PoolClosed, PoolDeadlock, PoolTimeout, TooManyWaiters
from ._recorder import Recorder

# No second try mends these.
_LASTING = AuthenticationError, AuthorizationError, SSLCertVerificationError


class RedisPolicy(Policy[Accountable]):
    """Knows redis-py's errors and how often redis-py would try again."""

    closed_error = PoolClosed
    timeout_error = PoolTimeout
    deadlock_error = PoolDeadlock
    rejected_error = TooManyWaiters
    aborted_error = RedisConnectionError

    def __init__(self, kind: str, retry: Retry) -> None:
        self.kind = kind
        self.retry = retry
        self.recorder: Recorder | None = None

    def worth_retrying(self, error: Exception, failures: int) -> bool:
        """As redis-py would, but for what can't be mended."""
        if any(isinstance(cause, _LASTING) for cause in _causes(error)):
            return False
        retries = self.retry.get_retries()
        return isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)) and (
            retries < 0 or failures <= retries  # a negative number is redis-py's "for ever"
        )

    def says_full(self, error: Exception) -> bool:
        """Also if the server says so: Redis has no code for it, but words since its beginnings."""
        return "max number of clients" in str(error) or any(
            super(RedisPolicy, self).says_full(cause) for cause in _causes(error)
        )

    def may_come_back(self, conn: Accountable, /) -> bool:
        """Not if the peer has closed it: the holder may be a subscriber who keeps it for days."""
        return conn.is_alive()

    def is_kept(self, conn: Accountable, /) -> bool:
        """Who subscribes, or monitors, needs a connection for as long as that goes on."""
        return conn.ledger.listens

    def name_error(self, error: Exception) -> str:
        """In full also if it is redis-py's word for a network error."""
        network = isinstance(error, (RedisConnectionError, RedisTimeoutError))
        return f"{type(error).__name__}: {error}" if network else super().name_error(error)

    def name_fault(self, conn: Accountable, /, *, idle: bool) -> str:  # noqa: ARG002 - it knows
        """Tell connections that were left with debts, that the peer has ended, or its user."""
        if not conn.ledger.clean:
            return "dirty"
        return LOST if conn.is_lost() else "unusable"

    def attend(self, events: Events) -> None:
        """Record for redis-py's telemetry, if that is on."""
        if self.recorder is not None:
            (events.add if Recorder.enabled() else events.remove)(self.recorder)


def _causes(error: Exception) -> Iterator[Exception]:
    """Give an error and what it came from: redis-py wraps what the network or TLS raises."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Exception):
            yield cause
        cause = cause.__cause__ or cause.__context__
