"""All that take part, aiopool first. A new one is a module with its adapter, and a name here."""

from collections.abc import Sequence

from benchmarks.contender import Contender

from .bare import BARE
from .coredis import COREDIS
from .glide import GLIDE
from .ours import BEHIND_REDIS, CLIENT, CLUSTER, CORE, LANES, PIPELINED, RAW
from .redis_py import BLOCKING, RAISING, THEIR_CLUSTER

__all__ = [
    "BARE",
    "BEHIND_REDIS",
    "CLIENT",
    "CORE",
    "PIPELINED",
]  # those that scenarios and tables name

ALL: Sequence[Contender] = (
    CORE,
    RAW,
    BEHIND_REDIS,
    CLIENT,
    PIPELINED,
    CLUSTER,
    LANES,
    BLOCKING,
    RAISING,
    THEIR_CLUSTER,
    COREDIS,
    GLIDE,
    BARE,
)
LENDERS = tuple(contender for contender in ALL if contender.lender is not None)
CLIENTS = tuple(contender for contender in ALL if contender.client is not None)
CLUSTERED = tuple(contender for contender in ALL if contender.cluster is not None)
OURS = tuple(contender.name for contender in ALL if contender.ours)
# What the floor does is no rival's work.
RIVALS = tuple(contender.name for contender in ALL if not contender.ours and contender is not BARE)
PACKAGES = {contender.name: contender.package for contender in ALL}
# By which all others are measured where there is but one figure to give; in a cluster by the second.
MEASURE = BLOCKING.name
MEASURES = (MEASURE, THEIR_CLUSTER.name)
