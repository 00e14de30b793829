"""``runtime infer``: one call from the shell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runtime.cli import inputs, outputs
from runtime.cli.common import PATH, echo_json

if TYPE_CHECKING:
    from runtime.client import Client, InferResult

_LATEST: Final = "latest"


@click.command()
@click.argument("model")
@click.option("--input", "-i", "given", metavar="NAME=VALUE", multiple=True, help="One input; see above.")
@click.option("--method", help="Method of the model.  [its default]")
@click.option("--version", default="", help="Version of the model.  [the newest]")
@click.option("--url", default="127.0.0.1:8001", show_default=True, metavar="HOST:PORT", help="Server.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Seconds."
)
@click.option("--output", "-o", type=PATH, metavar="FILE.npz", help="Store the outputs there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--tls-ca", type=PATH, metavar="FILE", help="Use TLS and trust these authorities, PEM.")
def infer(
    model: str,
    given: tuple[str, ...],
    method: str | None,
    version: str,
    output: Path | None,
    as_json: bool,
    **connection: Any,
) -> None:
    """Call MODEL, or NAME:VERSION, on a running server.

    \b
    An input is NAME=VALUE or NAME:DATATYPE=VALUE, where VALUE is
      @FILE.npy        an array
      @FILE.npz:KEY    one array of several
      @FILE.json       JSON from a file
      [[1,2],[3,4]]    JSON
    """  # noqa: D301 -- click wants the character
    if not given:
        raise click.UsageError("give at least one --input NAME=VALUE")
    name, _, tagged = model.partition(":")
    wanted = version or tagged
    with _connect(**connection) as client:
        chosen = "" if wanted == _LATEST else wanted
        result = _call(client, name, chosen, method, [inputs.split(text) for text in given])
    if output is not None:
        outputs.save(result, output)
    if as_json:
        echo_json(outputs.document(result))
    else:
        click.echo(outputs.text(result))


def _connect(url: str, timeout: float, tls_ca: Path | None) -> Client:
    from runtime.client import Client

    if tls_ca is None:
        return Client(url, timeout=timeout)
    import grpc

    return Client(url, timeout=timeout, credentials=grpc.ssl_channel_credentials(tls_ca.read_bytes()))


def _call(
    client: Client, name: str, version: str, method: str | None, given: Sequence[inputs.Input]
) -> InferResult:
    specs: dict[str, str] = {}
    if any(one.needs_spec for one in given):
        specs = {spec.name: spec.datatype for spec in client.model_metadata(name, version).inputs}
    arrays = {one.name: inputs.read(one, specs) for one in given}
    return client.infer(name, arrays, version=version, method=method)
