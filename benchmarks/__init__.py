"""How fast aiopool is beside what else there is: `python -m benchmarks`."""

import logging

# That openings fail is what some of these are about.
logging.getLogger("aiopool").addHandler(logging.NullHandler())
