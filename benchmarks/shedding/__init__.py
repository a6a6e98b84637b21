"""Overload, simulated and measured, with and without `shed=True`: `python -m benchmarks.shedding`."""
