"""The parts of ``python -m benchmarks.served_batching``: a model that sleeps, its server, loads, verdicts."""
