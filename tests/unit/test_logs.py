"""Log lines are JSON, one a record."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.captureWarnings(capture=False)


def record(message: str = "event_name", *args: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("some.module")
    return logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, message, args, None, extra=extra or None
    )


def test_a_line_has_time_level_logger_event_and_the_extra_fields() -> None:
    line = json.loads(logs.JsonFormatter({"role": "worker"}).format(record("batch %s", "done", rows=3)))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "some.module",
        "event": "batch done",
        "role": "worker",
        "rows": 3,
    }


def test_the_time_is_utc_with_milliseconds() -> None:
    entry = record()
    entry.created, entry.msecs = 0.0, 7.9
    assert json.loads(logs.JsonFormatter().format(entry))["time"] == "1970-01-01T00:00:00.007Z"


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    assert json.loads(logs.JsonFormatter().format(record(path=Path("/x"))))["path"] == "/x"


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("nope")
    except ValueError:
        entry = record()
        entry.exc_info = sys.exc_info()
    text = logs.JsonFormatter().format(entry)
    assert "\n" not in text
    assert "ValueError: nope" in json.loads(text)["traceback"]


def test_configuring_twice_leaves_one_handler(root: logging.Logger) -> None:
    logs.configure("DEBUG", role="a")
    logs.configure("WARNING", role="b")
    assert len(root.handlers) == 1
    assert root.level == logging.WARNING


def test_lines_and_warnings_go_to_stderr(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(role="test")
    root.info("hello", extra={"n": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    hello, old = map(json.loads, stderr.getvalue().splitlines())
    assert (hello["event"], hello["n"], hello["role"]) == ("hello", 1, "test")
    assert old["logger"] == "py.warnings"
