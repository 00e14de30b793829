"""Running the graph behind a plan in ONNX Runtime, where the plan itself cannot run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from frameworks.base import LoadOptions
from frameworks.calling import Opened
from frameworks.errors import InvalidModel
from frameworks.trt.files import Contents
from store import Signature

_logger = logging.getLogger(__name__)


def open_session(contents: Contents, options: LoadOptions) -> Any:
    """Open the graph in onnxruntime: on the card if that works, else on the CPU.

    Raises:
        InvalidModel: there is no graph, or onnxruntime refuses it.
        MissingFramework: it is not installed.
    """
    from frameworks.ort import (
        session as onnx_session,  # imports onnxruntime, which running plans does not need
    )

    graph = contents.graph()
    plain = replace(options, settings={})
    if plain.device != "cpu":
        try:
            return onnx_session.open_session(graph, plain)
        except InvalidModel as error:
            _logger.debug("tensorrt_fallback_on_cpu reason=%s", error.message)
    return onnx_session.open_session(graph, replace(plain, device="cpu"))


def session_methods(session: Any, signatures: Mapping[str, Signature]) -> dict[str, Opened]:
    """Return a session's methods.

    Raises:
        InvalidModel: a method is not in the graph.
    """
    from frameworks.ort import session as onnx_session

    return {
        name: onnx_session.SessionMethod(session, onnx_session.method_outputs(session, name, signature))
        for name, signature in signatures.items()
    }
