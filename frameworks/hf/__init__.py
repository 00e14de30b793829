"""The parts of Hugging Face transformers: folders, models, pipelines; used by the adapter."""

from __future__ import annotations
