"""All that is measured, in this order. A new scenario is a module, and a name here."""

from collections.abc import Sequence

from benchmarks.measure import Scenario

from .burst import BURST
from .cancelled import CANCELLED
from .cluster import CLUSTER_GET
from .commands import GET, SET
from .fairness import FAIRNESS
from .large import LARGE_VALUES
from .lend import LEND
from .mass_cancel import MASS_CANCEL
from .memory import MEMORY
from .mixed import MIXED
from .slow_connects import SLOW_CONNECTS
from .upkeep import UPKEEP

ALL: Sequence[Scenario] = (
    LEND,
    GET,
    SET,
    MIXED,
    LARGE_VALUES,
    CLUSTER_GET,
    BURST,
    SLOW_CONNECTS,
    CANCELLED,
    FAIRNESS,
    MASS_CANCEL,
    MEMORY,
    UPKEEP,
)
