"""Measures any Open Inference Protocol server, and says how far its own figures can be trusted.

Pure, without clock, thread or socket: ``histogram`` and ``records`` (what was measured), ``arrivals`` (when
to send), ``stability``, ``intervals``, ``search``, ``compare`` (what follows from it). Around them: the
engine that applies a load, what the server tells about itself, and the reports.
"""
