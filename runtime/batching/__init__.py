"""Decides which requests run together, when and where.

``task``, ``queue`` and ``policy`` are pure: no clock, thread, socket or event loop. ``scheduler`` is the
thin, locked part that owns them and talks to the instances.
"""
