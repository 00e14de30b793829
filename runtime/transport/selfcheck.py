"""Decide at start-up whether the installed grpcio can carry the completion-queue server.

That server stands on a private C binding which answers misuse by aborting the process, so the trial
runs in a child: a server and a stock client talk over a Unix socket through every operation that the
transport uses. The verdict is kept in memory, per version of grpcio.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import grpc

from runtime.errors import ConfigError
from runtime.transport.interface import ServerFactory

log = logging.getLogger(__name__)

PREFERENCES = ("auto", "completion_queue", "aio")
TRIAL_TIMEOUT_S = 10.0
_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from runtime.transport.trial import main; main()"
_verdicts: dict[str, str | None] = {}


def choose(preference: str = "auto") -> ServerFactory:
    """Return the server class to use and log why.

    Args:
        preference: ``auto`` takes the completion queue if the trial succeeds and grpc.aio otherwise;
            the other two skip the trial.

    Raises:
        ConfigError: an unknown preference, or a completion queue that cannot even be imported.
    """
    if preference not in PREFERENCES:
        raise ConfigError(
            f"transport must be one of {', '.join(PREFERENCES)}, not {preference!r}", field="transport"
        )
    reason: str | None = "as configured"
    if preference == "auto":
        reason = unsupported()
        preference = "completion_queue" if reason is None else "aio"
    factory = _load(preference)
    extra = {"transport": preference, "reason": reason or "the trial succeeded", "grpcio": grpc.__version__}
    log.log(
        logging.INFO if reason in {None, "as configured"} else logging.WARNING,
        "transport_chosen",
        extra=extra,
    )
    return factory


def unsupported(timeout_s: float = TRIAL_TIMEOUT_S) -> str | None:
    """Why the completion queue cannot be used here, or None if it can; about 0.6 s when first asked."""
    version = grpc.__version__
    if version not in _verdicts:
        _verdicts[version] = _missing() or _run_trial(timeout_s)
    return _verdicts[version]


def _load(name: str) -> ServerFactory:
    if name == "aio":
        from runtime.transport import aio

        return aio.Server
    try:
        from runtime.transport import completion_queue
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"transport completion_queue: {error}", field="transport") from error
    return completion_queue.Server


def _missing() -> str | None:
    """What of the C binding is not there; a look, without calling anything."""
    try:
        from grpc._cython import cygrpc

        from runtime.transport.core import NEEDED
    except (ImportError, AttributeError) as error:
        return f"the C binding of grpcio cannot be used: {error}"
    lacks = [
        f"{kind}.{name}"
        for kind, names in NEEDED.items()
        for name in names
        if not hasattr(getattr(cygrpc, kind, None), name)
    ]
    return f"the C binding of grpcio lacks {', '.join(lacks)}" if lacks else None


def _run_trial(timeout_s: float) -> str | None:
    command = [sys.executable, "-c", _PROGRAM, _ROOT]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"the trial did not end within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        return f"the trial could not be started: {error}"
    if child.returncode:
        return f"the trial ended with {child.returncode}: {child.stderr.strip()[-300:]}"
    return None
