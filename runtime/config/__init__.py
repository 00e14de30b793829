"""Typed options of the server and its models, and where each value came from.

Read once, at the start, and passed down; nothing here is global and nothing changes afterwards.
"""

from __future__ import annotations

from runtime.config.sections import ModelConfig, ServerConfig, TlsConfig
from runtime.config.settings import Row, Settings, load, model_config

__all__ = ["ModelConfig", "Row", "ServerConfig", "Settings", "TlsConfig", "load", "model_config"]
