"""Runs batches: the worker process with its executor, and the channel that leads to it."""
