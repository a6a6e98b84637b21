"""The example service under HTTP load, with one pool and another: `python -m benchmarks.http`."""
