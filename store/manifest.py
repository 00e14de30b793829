"""The record of one saved model: ``model.yaml`` beside the artifact files.

Written last when a model is published and never changed afterwards. Reading trusts nothing: a manifest may
come from elsewhere, so each field is checked and every message names the file and the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import yaml

from store.errors import InvalidManifest, InvalidSignature, InvalidTag
from store.plain import MAX_DEPTH, Plain, to_plain, to_plain_dict, to_text_dict
from store.signature import Signature, parse_signatures
from store.tag import Tag

FILE_NAME: Final = "model.yaml"
API_VERSION: Final = "v1"
MAX_LENGTH: Final = 4 << 20
"""Characters of a manifest."""


_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a model was saved: what a worker compares itself with when it loads the model."""

    framework_name: str = ""
    framework_versions: Mapping[str, str] = field(default_factory=dict)
    runtime_version: str = ""
    python_version: str = ""

    def to_dict(self) -> dict[str, Plain]:
        """Return the form that stands in the manifest."""
        return {
            "framework_name": self.framework_name,
            "framework_versions": dict(self.framework_versions),
            "runtime_version": self.runtime_version,
            "python_version": self.python_version,
        }

    @classmethod
    def parse(cls, value: object) -> Context:
        """Read ``to_dict``'s form; missing fields are empty.

        Raises:
            InvalidManifest: a field is of the wrong type.
        """
        plain = to_plain_dict(value, "context")
        versions = to_text_dict(plain.pop("framework_versions", None), "context.framework_versions")
        texts = to_text_dict(plain, "context")
        known = ("framework_name", "runtime_version", "python_version")
        return cls(framework_versions=versions, **{name: texts.get(name, "") for name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Everything known about a saved model besides its files.

    Construction checks and copies the free-form parts, so that a constructed record can always be written.

    Args:
        name: model name.
        version: model version, never ``latest``.
        module: adapter that saved it and can load it.
        signatures: callable methods.
        labels: short texts to find models by.
        options: how to serve it.
        metadata: what the user wants to remember; plain types only.
        context: library versions at save time.
        checks: what was measured at save time.
        parent: tag of the model that this one was made of; empty when there is none.
        pickled: loading an artifact runs code from it.
        digests: each file's relative path and ``sha256:`` digest.
        creation_time: ISO 8601 with zone.
        api_version: format of the record.

    Raises:
        InvalidManifest: a field cannot be stored; ``field`` names it.
        InvalidTag: name or version breaks the naming rules.
    """

    name: str
    version: str
    module: str
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Plain] = field(default_factory=dict)
    metadata: Mapping[str, Plain] = field(default_factory=dict)
    context: Context = Context()
    checks: Mapping[str, Plain] = field(default_factory=dict)
    parent: str = ""
    pickled: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    creation_time: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    api_version: str = API_VERSION

    def __post_init__(self) -> None:
        if Tag(self.name, self.version).is_latest:
            raise InvalidManifest("a saved model needs a version of its own, not 'latest'", field="version")
        for name in ("options", "metadata", "checks"):
            object.__setattr__(self, name, to_plain_dict(getattr(self, name), name))
        for name in ("labels", "digests"):
            object.__setattr__(self, name, to_text_dict(getattr(self, name), name))
        _check_digests(self.digests)
        _instant(self.creation_time)
        if self.parent and Tag.parse(self.parent).is_latest:
            raise InvalidManifest(f"parent {self.parent!r} names no version", field="parent")

    @property
    def tag(self) -> Tag:
        """The model's identity."""
        return Tag(self.name, self.version)

    @property
    def created(self) -> datetime:
        """The creation time as an instant, for comparing."""
        return _instant(self.creation_time)

    def to_dict(self) -> dict[str, Plain]:
        """Return the manifest as plain types, in the order in which it is written."""
        return {
            "name": self.name,
            "version": self.version,
            "module": self.module,
            "labels": dict(self.labels),
            "options": dict(self.options),
            "metadata": dict(self.metadata),
            "context": self.context.to_dict(),
            "signatures": {method: signature.to_dict() for method, signature in self.signatures.items()},
            "checks": dict(self.checks),
            "parent": self.parent,
            "pickled": self.pickled,
            "digests": dict(self.digests),
            "api_version": self.api_version,
            "creation_time": self.creation_time,
        }

    def dump(self) -> str:
        """Return the manifest's YAML text.

        Raises:
            InvalidManifest: it is too long, or a number has too many digits.
        """
        try:
            text: str = yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        except ValueError as error:
            raise InvalidManifest(f"the manifest cannot be written: {error}") from None
        if len(text) > MAX_LENGTH:
            raise InvalidManifest(f"the manifest is longer than {MAX_LENGTH} characters")
        return text

    @classmethod
    def load(cls, text: str, source: str | Path = FILE_NAME) -> ModelInfo:
        """Read a manifest. Unknown fields are passed over, so that later versions may add some.

        Args:
            text: YAML, at most ``MAX_LENGTH`` characters.
            source: file name for messages.

        Raises:
            InvalidManifest: not YAML, unknown api_version, or a missing or wrong field.
        """
        try:
            return _from_document(_parse(text))
        except (InvalidManifest, InvalidSignature, InvalidTag) as error:
            field_name = f"signatures.{error.field}" if isinstance(error, InvalidSignature) else error.field
            raise InvalidManifest(f"{source}: {error.message}", field=field_name) from None


def _parse(text: str) -> dict[str, Plain]:
    if len(text) > MAX_LENGTH:
        raise InvalidManifest(f"the manifest is longer than {MAX_LENGTH} characters")
    try:
        _check_structure(text)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 -- one of the two safe loaders
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: YAML that parses but names an impossible number or date.
        raise InvalidManifest(f"the manifest is not YAML: {error}") from None
    plain = to_plain(document, "manifest", extra_depth=1)
    if not isinstance(plain, dict):
        raise InvalidManifest("the manifest is no mapping of fields")
    return plain


def _check_structure(text: str) -> None:
    """Refuse deep nesting and aliases before the tree is built.

    The C loader recurses without a bound and would crash; aliases make a tree of any size from a few lines.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent):
            raise InvalidManifest("the manifest uses YAML aliases; write each value out")
        if depth > MAX_DEPTH + 2:  # the deepest list of the deepest field, in the document
            raise InvalidManifest(f"the manifest has more than {MAX_DEPTH} levels")


def _from_document(document: dict[str, Plain]) -> ModelInfo:
    version = document.get("api_version")
    if version != API_VERSION:
        raise InvalidManifest(
            f"api_version is {version!r}; this release reads {API_VERSION!r}", field="api_version"
        )
    pickled = _required(document, "pickled")
    if not isinstance(pickled, bool):
        raise InvalidManifest(f"pickled must be true or false, not {pickled!r}", field="pickled")
    return ModelInfo(
        name=_text(document, "name"),
        version=_text(document, "version"),
        module=_text(document, "module"),
        signatures=parse_signatures(_required(document, "signatures")),
        labels=to_text_dict(_required(document, "labels"), "labels"),
        options=to_plain_dict(_required(document, "options"), "options"),
        metadata=to_plain_dict(_required(document, "metadata"), "metadata"),
        context=Context.parse(_required(document, "context")),
        checks=to_plain_dict(document.get("checks"), "checks"),
        parent=_text(document, "parent") if document.get("parent") is not None else "",
        pickled=pickled,
        digests=to_text_dict(_required(document, "digests"), "digests"),
        creation_time=_text(document, "creation_time"),
    )


def _required(document: dict[str, Plain], name: str) -> Plain:
    if name not in document:
        raise InvalidManifest(f"field {name!r} is missing", field=name)
    return document[name]


def _text(document: dict[str, Plain], name: str) -> str:
    value = _required(document, name)
    if not isinstance(value, str):
        raise InvalidManifest(f"field {name!r} must be text, not {value!r}", field=name)
    return value


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidManifest(f"creation_time {text!r} is not ISO 8601", field="creation_time") from None
    if instant.tzinfo is None:
        raise InvalidManifest(f"creation_time {text!r} has no zone", field="creation_time")
    return instant


def _check_digests(digests: Mapping[str, str]) -> None:
    # A manifest may be foreign: its paths must not lead out of the model's folder.
    for name in digests:
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != name:
            raise InvalidManifest(
                f"digests name the path {name!r}, which is not inside the model", field="digests"
            )
