"""The processes that are watched, and what was seen of each last."""

import time
from collections.abc import Sequence
from threading import Thread

from ._history import History, Point
from ._snapshot import NoSnapshot, Snapshot, read
from ._source import NoAnswer, ask, shown


class Process:
    """One that serves its pools."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.snapshot: Snapshot | None = None
        """The last it has told; None: nothing yet."""
        self.points: Sequence[Sequence[Point]] = ()
        """Of each of its pools."""
        self.gone: str | None = None
        """Why it does not answer, if it does not."""
        self.since = ""
        """The time of day when that was first seen."""
        self._history = History()

    def look(self) -> None:
        """See what it has to tell now."""
        try:
            snapshot = _read(self.target)
        except NoAnswer as error:
            if self.gone is None:
                self.since = time.strftime("%H:%M:%S")
            self.gone = str(error)
        else:
            self.gone, self.snapshot = None, snapshot
            self.points = self._history.add(snapshot)


def _read(target: str) -> Snapshot:
    try:
        return read(ask(target))
    except NoSnapshot:
        msg = f"what answers at {shown(target)} tells of no pools, or as another version does"
        raise NoAnswer(msg) from None


def look_at(processes: Sequence[Process]) -> None:
    """Look at all of them, at the same time: one that hangs takes as long as any number of them."""
    # Daemons, so that an interruption need not wait for them.
    looks = [Thread(target=process.look, daemon=True) for process in processes]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
