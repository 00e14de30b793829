from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import runtime
from frameworks.errors import MissingFramework
from runtime.cli.main import cli, main
from runtime.errors import ConfigError, LoadFailed
from store import InvalidTag, ModelMissing

ROOT = Path(runtime.__file__).parents[1]
VERBS = ("serve", "demo", "infer", "models")
COMMANDS = [(), *((verb,) for verb in VERBS), *(("models", verb) for verb in ("list", "get", "delete"))]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """A command that raises what is put into the list."""
    errors: list[BaseException] = []

    @cli.command("fail")
    def fail() -> None:
        raise errors[0]

    yield errors
    del cli.commands["fail"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(
    command: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, flag]) == 0
    out = capsys.readouterr().out
    assert out.startswith(" ".join(["Usage: runtime", *command]))


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in VERBS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"runtime {runtime.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nope"], ["serve", "--nope"], ["models", "get"], ["infer", "m"], ["serve", "--port", "x"]]
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, "Usage: runtime" in captured.err) == ("", True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (InvalidTag("wrong"), 2),
        (ModelMissing("wrong"), 1),
        (LoadFailed("wrong"), 1),
        (MissingFramework("wrong"), 1),
        (PermissionError("wrong"), 1),
        (TimeoutError("wrong"), 1),
    ],
)
def test_a_known_error_is_one_line(
    failing: list[BaseException], error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(error)
    assert main(["fail"]) == code
    assert capsys.readouterr().err == "error: wrong\n"


def test_an_error_of_a_call_is_one_line(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    import grpc

    from runtime.client import RpcFailed

    failing.append(RpcFailed(grpc.StatusCode.UNAVAILABLE, "nobody there"))
    assert main(["fail"]) == 1
    assert capsys.readouterr().err == "error: UNAVAILABLE: nobody there\n"


def test_an_unexpected_error_has_a_traceback_only_with_debug(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ZeroDivisionError("oops"))
    assert main(["fail"]) == 1
    plain = capsys.readouterr().err
    assert plain == "error: unexpected ZeroDivisionError: oops; 'runtime --debug ...' shows where\n"
    assert main(["--debug", "fail"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (click.Abort(), 1), (EOFError(), 1)],
)
def test_an_interruption_has_its_own_code(
    failing: list[BaseException], error: BaseException, code: int
) -> None:
    failing.append(error)
    assert main(["fail"]) == code


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "runtime.cli.main", "models", "list"],
            stdout=gone, stderr=subprocess.PIPE, timeout=60, check=False, cwd=ROOT,
        )  # fmt: skip
    assert done.stderr == b""


def test_help_and_listings_import_nothing_heavy() -> None:
    code = (
        "import sys; from runtime.cli.main import main; main(['--help']); main(['models', 'list']);"
        "heavy = {'numpy', 'grpc', 'google.protobuf', 'sklearn', 'torch', 'asyncio'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
