"""Opens a variant's artifact where it lies, on the runtime that is to execute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from frameworks import registry
from frameworks.base import FileAdapter
from frameworks.calling import Opened
from frameworks.convert.formats import Format, RuntimeProvider, Variant
from frameworks.convert.place import Place
from frameworks.convert.work import ADAPTERS
from store import Signature


def open_variant(
    variant: Variant, path: Path, signatures: Mapping[str, Signature], place: Place
) -> Mapping[str, Opened]:
    """Return one callable per method of an artifact.

    Nothing falls back: what is verified and measured is the runtime that was asked for.

    Raises:
        FrameworkError: it cannot be opened here.
    """
    options = place.options
    if variant.format is Format.ONNX and place.provider is RuntimeProvider.TRT:
        options = replace(options, settings={"provider": "tensorrt"})
    elif variant.format is Format.TENSORRT:
        options = replace(options, settings={"on_mismatch": "fail"})
    adapter = cast(FileAdapter, registry.adapter(ADAPTERS[variant.format]))
    return adapter.open_artifact(path, signatures, options)
