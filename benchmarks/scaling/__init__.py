"""Many processes with many pools, simulated: `python -m benchmarks.scaling`."""
