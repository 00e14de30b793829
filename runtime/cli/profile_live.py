"""Live figures of ``runtime profile``: one line on a terminal that is written over, nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from runtime.clock import MILLISECOND, now_ns
from runtime.profiling.report import label_words, load_name

if TYPE_CHECKING:
    from runtime.profiling.records import Load
    from runtime.profiling.timeline import Progress

EVERY_NS: Final = 200 * MILLISECOND

_BAR: Final = 20
_CLEAR: Final = "\r\x1b[2K"


class Live:
    """Shows how a run goes.

    Args:
        total: runs to come; 0 when not known.
        stream: where to; nothing is shown unless it is a terminal.
    """

    def __init__(self, total: int = 0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()
        self._total = total
        self._done = 0
        self._shown_ns = 0

    def note(self, text: str) -> None:
        """Say something that stays: on a terminal and elsewhere."""
        self._write(_CLEAR if self._is_shown else "")
        click.echo(text, file=self._stream)

    @contextmanager
    def run(self, load: Load, labels: dict[str, Any]) -> Iterator[Callable[[Progress], None]]:
        """Yield what is to be told the progress of one run; the line is cleared when it ends."""
        self._done += 1
        count = f"{self._done}/{self._total}" if self._total else f"{self._done}"
        name = ", ".join([load_name(load), *label_words(labels)])
        self._shown_ns = 0
        try:
            yield lambda now: self._show(f"[{count}] {name}", now)
        finally:
            if self._is_shown:
                self._write(_CLEAR)

    def _show(self, name: str, now: Progress) -> None:
        if not self._is_shown or now_ns() - self._shown_ns < EVERY_NS:
            return
        self._shown_ns = now_ns()
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be cleared
        self._write(_CLEAR + line(name, now)[:width])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def line(name: str, now: Progress) -> str:
    """Return the line for one moment."""
    filled = round(_BAR * now.fraction)
    bar = "#" * filled + "." * (_BAR - filled)
    return (
        f"{name} {bar} {'warm-up ' if now.is_warm_up else ''}{now.rate:.0f}/s "
        f"p50 {now.p50_ms:.2f} p99 {now.p99_ms:.2f} ms, {now.in_flight} in flight, {now.not_ok} errors"
    )
