"""Converting saved models to other formats, each step in a process of its own, and verifying the results."""

from __future__ import annotations
