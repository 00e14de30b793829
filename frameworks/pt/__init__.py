"""Torch's parts: tensors across the border, exported programs and their archives; used by three adapters."""

from __future__ import annotations
