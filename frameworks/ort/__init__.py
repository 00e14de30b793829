"""ONNX Runtime's parts: files, providers, sessions, values; used by every adapter and step that runs a graph.

Importing the package keeps onnxruntime from recording what this machine does: it does so by default, from its
import on. ``ORT_DISABLE_TELEMETRY=0`` in the environment leaves it on.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
