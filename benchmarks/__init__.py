"""Measurements: each script prints a table and keeps its figures in RESULTS.md."""
