"""TensorFlow's parts: a quiet import, devices, tensors, SavedModels; used by the adapter and the steps."""

from __future__ import annotations
