"""The pool's policy where it lends redis-py's connections: redis-py's errors, retries and telemetry."""

from ssl import SSLCertVerificationError

from redis.asyncio.retry import Retry
from redis.exceptions import AuthenticationError, AuthorizationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiopool._policy import Listener, Policy

from ._connection import Accountable
from ._errors import PoolClosed, PoolTimeout, TooManyWaiters
from ._recorder import Recorder

# No second try mends these.
_LASTING = AuthenticationError, AuthorizationError, SSLCertVerificationError


class RedisPolicy(Policy[Accountable]):
    """Knows redis-py's errors and how often redis-py would try again."""

    kind = "RedisPool"
    closed_error = PoolClosed
    timeout_error = PoolTimeout
    rejected_error = TooManyWaiters

    def __init__(self, retry: Retry) -> None:
        self.retry = retry
        self.recorder: Recorder | None = None

    def worth_retrying(self, error: Exception, failures: int) -> bool:
        """As redis-py would, but for what can't be mended."""
        cause: BaseException | None = error
        while cause is not None:  # redis-py wraps what the network or TLS raises
            if isinstance(cause, _LASTING):
                return False
            cause = cause.__cause__ or cause.__context__
        retries = self.retry.get_retries()
        return isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)) and (
            retries < 0 or failures <= retries  # a negative number is redis-py's "for ever"
        )

    def may_come_back(self, conn: Accountable, /) -> bool:
        """Not if the peer has closed it: the holder may be a subscriber who keeps it for days."""
        return conn.is_alive()

    def name_error(self, error: Exception) -> str:
        """In full also if it is redis-py's word for a network error."""
        network = isinstance(error, (RedisConnectionError, RedisTimeoutError))
        return f"{type(error).__name__}: {error}" if network else super().name_error(error)

    def name_fault(self, conn: Accountable, /) -> str:
        """Tell a connection that was left with debts from one that is broken."""
        return "unusable" if conn.ledger.clean else "dirty"

    def listener(self) -> Listener | None:
        """Record for redis-py's telemetry, if that is on."""
        return self.recorder if Recorder.enabled() else None
