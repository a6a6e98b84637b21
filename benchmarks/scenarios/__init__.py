"""All that is measured, in this order. A new scenario is a module, and a name here."""

from collections.abc import Sequence

from benchmarks.measure import Scenario

from .commands import GET, SET
from .lend import LEND

ALL: Sequence[Scenario] = (LEND, GET, SET)
