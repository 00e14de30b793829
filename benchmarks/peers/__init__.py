"""Compares the server with others that serve Python models over gRPC: ``python -m benchmarks.peers``."""
