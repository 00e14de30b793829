"""``runtime models``: look at saved models and delete them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.common import echo_json, human_bytes, open_store, short_path, store_option, table
from runtime.cli.models_family import family

if TYPE_CHECKING:
    from store import Model, ModelStore, Tag


@click.group()
def models() -> None:
    """Look at saved models and delete them."""


@models.command("list")
@click.argument("name", required=False)
@click.option("--parent", metavar="TAG", help="Only what was made of this model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def list_models(name: str | None, parent: str | None, as_json: bool, store: str | None) -> None:
    """List saved models, newest first; with NAME its versions."""
    opened = open_store(store)
    made_of = _parent(opened, parent) if parent else None
    found = [(model, _size(model)) for model in opened.list(name) if made_of in (None, model.info.parent)]
    if as_json:
        echo_json([_summary(model, size) for model, size in found])
        return
    rows = [
        [
            str(model.tag),
            model.info.module,
            "?" if size is None else human_bytes(size),
            f"{model.info.created.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            short_path(model.path),
        ]
        for model, size in found
    ]
    click.echo(table(["Tag", "Module", "Size", "Creation Time", "Path"], rows))


@models.command("get")
@click.argument("tag")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML, as without options.")
@store_option
def get_model(tag: str, as_json: bool, as_yaml: bool, store: str | None) -> None:
    """Show the record of the model TAG: NAME, NAME:VERSION or NAME:latest.

    Behind it comes its family: the model that it was made of, and those that were made of it.
    """
    if as_json and as_yaml:
        raise click.UsageError("choose one of --json and --yaml")
    opened = open_store(store)
    model = opened.get(tag)
    found = family(opened, model)
    if as_json:
        echo_json({**model.info.to_dict(), "family": found})
        return
    click.echo(model.info.dump(), nl=False)
    if found["parent"] or found["children"]:
        click.echo(_yaml({"family": found}), nl=False)


@models.command("delete")
@click.argument("tag")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@store_option
def delete_model(tag: str, yes: bool, store: str | None) -> None:
    """Delete the model TAG: one version, or the newest one of NAME."""
    opened = open_store(store)
    found = _resolve(opened, tag)
    shown = f'Model(tag="{found}")'
    if not yes:
        click.confirm(f"Delete {shown}?", abort=True)
    opened.delete(found)
    click.echo(f"{shown} deleted")


def _parent(store: ModelStore, tag: str) -> str:
    """Return the tag of one version; it may be gone, as a parent may."""
    from store import Tag

    parsed = Tag.parse(tag)
    return str(store.get(parsed).tag if parsed.is_latest else parsed)


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _resolve(store: ModelStore, tag: str) -> Tag:
    """Return the version that a tag means now, so that what is asked about is what goes; a broken one too."""
    from store import CorruptArtifact, Tag

    try:
        return store.get(tag).tag
    except CorruptArtifact:
        if Tag.parse(tag).is_latest:
            raise
        return Tag.parse(tag)


def _size(model: Model) -> int | None:
    """Return the bytes of a model; None when its files are damaged, or were deleted meanwhile."""
    from store import StoreError

    try:
        return model.size_bytes
    except StoreError:
        return None


def _summary(model: Model, size: int | None) -> dict[str, Any]:
    info = model.info
    return {
        "tag": str(model.tag),
        "name": info.name,
        "version": info.version,
        "module": info.module,
        "size_bytes": size,
        "creation_time": info.creation_time,
        "labels": dict(info.labels),
        "parent": info.parent or None,
        "path": str(model.path),
    }
