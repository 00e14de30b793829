"""Conversion steps by source: each module's functions are ``(Work) -> Made`` and run in their own process."""

from __future__ import annotations
