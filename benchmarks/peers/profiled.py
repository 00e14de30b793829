"""The product's own profiler, the same command against any server of the Open Inference Protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers.server import Served
from runtime.profiling.records import Outcome, Run

MODEL: Final = "linear64"
ARGUMENTS: Final = ("--model", MODEL, "--rate", "200", "--duration", "4")
"""A Poisson stream that every server can carry, so that response times compare."""

LONGEST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What the profiler said of one server.

    Attributes:
        answered: answers that came, and were OK, in percent of what was offered.
        p50: response time in ms, from the intended send.
        p99: likewise.
        remark: why the figures do not count; empty if they do.
    """

    answered: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    remark: str = ""


def profile(served: Served, folder: Path) -> Profile:
    """Run ``runtime profile`` against a server."""
    result = folder / f"{served.peer.name}-profile.json"
    command = [sys.executable, "-m", "runtime.cli.main", "profile", "--url", f"127.0.0.1:{served.port}"]
    try:
        done = subprocess.run(
            [*command, *ARGUMENTS, "--json", str(result)],
            check=False, capture_output=True, text=True, timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Profile(remark=f"no end after {LONGEST_S:.0f} s")
    if done.returncode or not result.exists():
        return Profile(remark=f"exit {done.returncode}: {done.stderr.strip()[-200:]}")
    return read(json.loads(result.read_text())["points"][0])


def read(point: dict[str, object]) -> Profile:
    """Take the figures from a point of a result file."""
    run = Run.from_dict(point)
    total = run.total
    ok, offered = total.counts[Outcome.OK], sum(total.counts)
    if not ok:
        return Profile(remark="nothing was answered")
    p50, p99 = (total.response.percentile(percent) / 1e6 for percent in (50, 99))
    return Profile(100 * ok / offered, p50, p99, "; ".join(run.invalid))
