"""The profiler: load generation and the statistics of what it measures."""
