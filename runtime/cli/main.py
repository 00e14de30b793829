"""``runtime``: the group of all verbs, and the one place where errors become exit codes.

0 ok, 1 failed, 2 bad usage or configuration, 130 interrupted. Known errors are one line on stderr; what
nobody foresaw is one line too, and a traceback with ``--debug``.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

import runtime
from runtime.cli.convert import convert
from runtime.cli.demo import demo
from runtime.cli.infer import infer
from runtime.cli.models import models
from runtime.cli.profile import profile
from runtime.cli.serve import serve
from runtime.errors import ConfigError, RuntimeServingError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_KNOWN: Final = (
    ("store.errors", "StoreError"),
    ("frameworks.errors", "FrameworkError"),
    ("runtime.client.errors", "RpcFailed"),
)
"""Roots of the other error trees. Looked up only where they are imported already: what was raised is."""


class _Invocation:
    """What the group's own options say, for the time of one run."""

    debug = False


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"runtime {runtime.__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version)
@click.pass_obj
def cli(invocation: _Invocation, debug: bool) -> None:
    """Save models in Python, serve them over gRPC."""
    invocation.debug = debug


for _command in (serve, demo, infer, models, convert, profile):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    invocation = _Invocation()
    try:
        code = cli.main(arguments, "runtime", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        return _aborted(error)
    except SystemExit as error:  # click's answer to a broken pipe
        return error.code if isinstance(error.code, int) else FAILED
    except Exception as error:  # noqa: BLE001 -- the last fence
        return _failed(error, debug=invocation.debug)
    return code if isinstance(code, int) else OK


def _aborted(error: BaseException) -> int:
    """Tell ctrl-C from a question that was answered with no, or not at all."""
    if isinstance(error, KeyboardInterrupt) or isinstance(
        error.__cause__ or error.__context__, KeyboardInterrupt
    ):
        return INTERRUPTED
    click.echo("aborted", err=True)
    return FAILED


def _failed(error: Exception, *, debug: bool) -> int:
    if debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if not isinstance(error, _known()):
        hint = "" if debug else "; 'runtime --debug ...' shows where"
        click.echo(f"error: unexpected {type(error).__name__}: {error}{hint}", err=True)
        return FAILED
    click.echo(f"error: {error}", err=True)
    return (
        USAGE if isinstance(error, ConfigError) or getattr(error, "reason", "") == "invalid_tag" else FAILED
    )


def _known() -> tuple[type[BaseException], ...]:
    found = [getattr(sys.modules[module], name) for module, name in _KNOWN if module in sys.modules]
    return (RuntimeServingError, OSError, *found)


if __name__ == "__main__":
    sys.exit(main())
