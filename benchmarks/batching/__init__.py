"""The batching decisions, simulated: ``python -m benchmarks.batching``."""
