"""How fast aiopool is beside what else there is: `python -m benchmarks`."""
