"""``runtime serve``: from targets and flags to models and settings; ``runtime.service`` does the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from runtime.cli.common import PATH, STORE_HELP, open_store, table

if TYPE_CHECKING:
    from runtime.config import Settings
    from store import Model, ModelStore

_HOW_TO_SAVE: Final = """\
there is no model in {root}; save one first, for example

    import runtime
    runtime.sklearn.save_model("iris_clf", classifier)

or see a whole round with: runtime demo"""

_SERVER_FLAGS: Final = (
    "host", "port", "http_port", "services", "store", "log_level", "drain_delay_ms", "grace_ms", "transport",
)  # fmt: skip
_TLS_FLAGS: Final = {"tls_cert": "cert", "tls_key": "key", "tls_client_ca": "client_ca"}
_MODEL_FLAGS: Final = ("device", "max_batch_size")

_LATEST: Final = "latest"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _server_options(command: _Command) -> _Command:
    """Add the flags of the sections ``[server]`` and ``[tls]``."""
    levels = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
    for option in reversed(
        [
            click.option("--host", help="Address to listen on.  [127.0.0.1]"),
            click.option("--port", type=int, help="gRPC port; 0 takes a free one.  [8001]"),
            click.option(
                "--http-port", type=int, help="Port of health and metrics; 0 takes a free one.  [8002]"
            ),
            click.option("--store", metavar="DIR", help=STORE_HELP),
            click.option(
                "--config", type=PATH, metavar="FILE", help="TOML file.  [./runtime.toml if there is one]"
            ),
            click.option("--services", type=int, help="Front-end processes that share the port.  [1]"),
            click.option("--log-level", type=levels, help="Least level that is logged.  [INFO]"),
            click.option("--tls-cert", metavar="FILE", help="Certificate chain, PEM."),
            click.option("--tls-key", metavar="FILE", help="Private key, PEM."),
            click.option(
                "--tls-client-ca", metavar="FILE", help="Let in clients of these authorities only, PEM."
            ),
            click.option(
                "--transport",
                type=click.Choice(["auto", "completion_queue", "aio"]),
                help="gRPC implementation.  [auto]",
            ),
            click.option("--drain-delay-ms", type=int, help="Still accept that long after SIGTERM.  [1000]"),
            click.option("--grace-ms", type=int, help="Then finish within that time.  [30000]"),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@_server_options
@click.option(
    "--instances",
    metavar="N|NAME=N",
    multiple=True,
    help="Loaded copies of every model, or of the model NAME; may be repeated.  [1]",
)
@click.option("--device", help="Where models execute: cpu, cuda, cuda:N, or several with commas.  [cpu]")
@click.option("--max-batch-size", type=int, help="Most rows executed together.  [64]")
@click.option("--print-config", is_flag=True, help="Print every option with its source, and end.")
def serve(
    targets: tuple[str, ...],
    config: Path | None,
    instances: tuple[str, ...],
    print_config: bool,
    **flags: Any,
) -> int:
    """Serve saved models over gRPC until SIGTERM.

    TARGET is the tag of a saved model: NAME, NAME:VERSION or NAME:latest. Without targets the newest version
    of every model in the store is served. Prints one line when everything is ready.
    """
    from store import ModelMissing

    settings = _settings(config, instances, flags)
    store = open_store(settings.server.store)
    found = [_find(store, target) for target in dict.fromkeys(targets)] or _newest(store)
    models = list({model.tag: model for model in found}.values())
    names = {model.info.name: model.info.options for model in models}
    settings.check_models({model.info.name for model in store.list()}, names)
    for model in models:  # before anything starts: a manifest may have a value that cannot be used
        settings.model(model.info.name, model.info.options)
    if print_config:
        rows = settings.explain(names)
        click.echo(
            table(["Option", "Value", "Source"], [[row.name, _shown(row.value), row.source] for row in rows])
        )
        return 0
    if not models:
        raise ModelMissing(_HOW_TO_SAVE.format(root=store.root))
    return _run(settings, models)


def _run(settings: Settings, models: Sequence[Model]) -> int:
    from runtime.service.serve import serve as run

    return run(settings, models)


def _settings(config: Path | None, instances: Sequence[str], flags: dict[str, Any]) -> Settings:
    from runtime.config import load
    from runtime.transport.options import TransportOptions

    sections = {
        "server": {key: flags[key] for key in _SERVER_FLAGS},
        "tls": {key: flags[name] for name, key in _TLS_FLAGS.items()},
        "model": {key: flags[key] for key in _MODEL_FLAGS},
    }
    for text in instances:
        name, assigned, number = text.rpartition("=")
        section = f"models.{name}" if assigned else "model"
        if not number.isdecimal() or (assigned and not name):
            raise click.BadParameter(f"{text!r} is neither N nor NAME=N", param_hint="--instances")
        sections.setdefault(section, {})["instances"] = int(number)
    return load(TransportOptions, file=config, environment=os.environ, flags=sections)


def _find(store: ModelStore, target: str) -> Model:
    """Return the model of a tag.

    Raises:
        ModelMissing: there is none; a target that looks like an import path is told so.
    """
    from store import InvalidTag, ModelMissing

    try:
        return store.get(target)
    except (ModelMissing, InvalidTag) as error:
        name, _, attribute = target.partition(":")
        if (
            not attribute.isidentifier()
            or attribute == _LATEST
            or name in {model.info.name for model in store.list()}
        ):
            raise
        raise ModelMissing(
            f"no such model: {target!r}; a target is the tag of a saved model, NAME or NAME:VERSION, "
            "not an object of a module",
            field="target",
        ) from error


def _newest(store: ModelStore) -> list[Model]:
    """Return the newest version of every model; oldest model first."""
    newest: dict[str, Model] = {}
    for model in store.list():
        newest.setdefault(model.info.name, model)
    return list(reversed(newest.values()))


def _shown(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"{value}" or '""'
