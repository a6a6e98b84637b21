"""What the requests were told: one half of the check. The other is what the server has."""

from dataclasses import dataclass, field

from ._names import Names


@dataclass(slots=True)
class Book:
    """Notes each answer at once, before anything can interrupt the request."""

    names: Names
    stored: set[int] = field(default_factory=set[int])
    """Requests that were told their token is stored."""
    asked: set[int] = field(default_factory=set[int])
    """Requests whose increment may have reached the server."""
    told: dict[int, int] = field(default_factory=dict[int, int])
    """What the counter was, as told to each request that got an answer to its increment."""
    wrong: list[str] = field(default_factory=list[str])
    """Answers that were none to what had been asked."""

    @property
    def unknown(self) -> int:
        """How many increments may or may not have been made: asked for, but never answered."""
        return len(self.asked - self.told.keys())

    def set_answered(self, request: int, reply: object) -> None:
        """Note the answer to SET."""
        if reply is True or reply in ("OK", b"OK"):
            self.stored.add(request)
        else:
            self._wrong(request, "SET", reply)

    def incr_answered(self, request: int, reply: object) -> None:
        """Note the answer to INCR."""
        if type(reply) is int:
            self.told[request] = reply
        else:
            self._wrong(request, "INCR", reply)

    def blpop_answered(self, request: int, reply: object) -> None:
        """Note the answer to BLPOP on a list that never is."""
        if reply is not None:
            self._wrong(request, "BLPOP", reply)

    def get_answered(self, request: int, reply: object) -> None:
        """Note the answer to GET."""
        token = self.names.token(request)
        if reply not in (token, token.encode()):
            self._wrong(request, "GET", reply)

    def _wrong(self, request: int, command: str, reply: object) -> None:
        self.wrong.append(f"request {request} got {reply!r} for its {command}")
