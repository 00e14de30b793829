"""TensorRT's parts: plans, their cache, building, opening, executing; used by the adapter and the step."""

from __future__ import annotations
