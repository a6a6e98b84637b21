"""How fast aiopool is beside others, and what it does in numbers too large to try."""

import logging

# That openings fail is what some of these are about.
logging.getLogger("aiopool").addHandler(logging.NullHandler())
