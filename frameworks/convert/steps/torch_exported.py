"""The exported program of a torch model, which several formats are made of."""

from __future__ import annotations

from frameworks import base
from frameworks.convert.steps.torch_attempt import attempt
from frameworks.convert.steps.torch_shapes import dynamic_shapes
from frameworks.convert.steps.torch_source import Source, original, source
from frameworks.convert.work import NotConvertible, Work
from frameworks.pt.program import batch_limit
from frameworks.pt.quiet import quiet
from frameworks.pt.tensors import VERSIONS
from store import Signature
from store.plain import Plain

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error


def program_of(work: Work, signature: Signature) -> torch.export.ExportedProgram:
    """Return the exported program of the source, made here where it is not one already.

    Raises:
        NotConvertible: see ``export_program``; or the source is TorchScript.
    """
    module = original(work)
    if isinstance(module, torch.export.ExportedProgram):
        return module
    if isinstance(module, torch.jit.ScriptModule):
        raise NotConvertible(
            "torch.export does not take TorchScript; convert the module that it came from, or take "
            "onnx-legacy",
            field="model",
        )
    return export_program(source(work, module), work)


def export_program(found: Source, work: Work) -> torch.export.ExportedProgram:
    """Export a module with the dynamic axes of its signature.

    Raises:
        NotConvertible: ``torch.export`` cannot follow the module, or it fixes an axis that is to be dynamic.
    """
    shapes = dynamic_shapes(found.signature, work.settings.max_batch_size)
    with quiet(), torch.no_grad():
        return attempt(
            "torch.export",
            lambda: torch.export.export(found.module, found.example, dynamic_shapes=shapes, strict=False),
        )


def versions() -> dict[str, Plain]:
    """Return the versions of what made the result, for the record."""
    return dict(VERSIONS)


def row_limit(work: Work, signature: Signature, program: torch.export.ExportedProgram) -> dict[str, Plain]:
    """Return the most rows that a result of this program is to be given, for the record."""
    if not signature.batchable:
        return {}
    limit = batch_limit(program, signature.batch_dim[0])
    asked = work.settings.max_batch_size
    return {"max_batch_size": asked if limit is None else min(limit, asked)}
