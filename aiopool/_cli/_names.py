"""What one run calls its things on the server, where it is a guest."""

from dataclasses import dataclass, field
from secrets import token_hex

# Should the run be killed before it can tidy up, its keys go by themselves, in seconds.
LIFETIME = 300


def _unique() -> str:
    return f"aiopool-demo-{token_hex(6)}"


@dataclass(frozen=True, slots=True)
class Names:
    """Names that nobody else uses: they begin with what is unique to this run."""

    run: str = field(default_factory=_unique)

    @property
    def counter(self) -> str:
        """The key that every request increments."""
        return f"{self.run}:counter"

    @property
    def never(self) -> str:
        """The key where there never is anything."""
        return f"{self.run}:never"

    def key(self, request: int) -> str:
        """Give the key that is this request's own."""
        return f"{self.run}:request:{request}"

    def token(self, request: int) -> str:
        """Give what this request writes under its key, and nobody else writes anywhere."""
        return f"{self.run} belongs to {request}"
