"""Steps that start from a torch model: TorchScript, exported programs, compiled packages, ONNX.

Each writes one artifact, opens it as a worker would and runs it once before it is put in its place. What it
computes is verified elsewhere. One method is converted: ``__call__``, or the only one there is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from frameworks import base, objects
from frameworks.calling import name_results
from frameworks.convert.formats import Exporter
from frameworks.convert.steps.torch_attempt import attempt, recorded, replacing, try_artifact
from frameworks.convert.steps.torch_exported import program_of, row_limit, versions
from frameworks.convert.steps.torch_shapes import dynamic_axes
from frameworks.convert.steps.torch_source import Source, chosen, original, source
from frameworks.convert.steps.torch_trt import torch_trt
from frameworks.convert.work import Made, MissingTool, NotConvertible, Work
from frameworks.pt.archive import CPU_FLAGS, cpu_flags
from frameworks.pt.program import layout_of
from frameworks.pt.quiet import quiet
from store import Signature
from store.plain import Plain

try:
    import torch
    from torch.utils import _pytree as pytree
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

__all__ = ["aoti", "export", "onnx", "onnx_legacy", "script", "torch_trt", "trace"]

_COMPILERS: Final = ("g++", "clang++")


def script(work: Work) -> Made:
    """Compile the module's code: control flow that depends on data is kept.

    Raises:
        NotConvertible: the code has what TorchScript does not know.
    """
    method, signature = chosen(work)
    module = original(work)
    if isinstance(module, torch.export.ExportedProgram):
        raise NotConvertible("an exported program has no code that could be scripted", field="model")
    if not isinstance(module, torch.jit.ScriptModule):
        compile_code: Any = torch.jit.script  # untyped
        with quiet():
            module = attempt("torch.jit.script", lambda: compile_code(module))
    if not callable(module if method == objects.CALL else getattr(module, method, None)):
        raise NotConvertible(
            f"TorchScript leaves out method {method!r}; mark it with @torch.jit.export", field="signatures"
        )
    return _save_script(work, method, signature, module)


def trace(work: Work) -> Made:
    """Record what the module does on an example: branches that depend on data are not kept.

    Raises:
        NotConvertible: it cannot be traced.
    """
    module = original(work)
    if isinstance(module, torch.jit.ScriptModule):
        raise NotConvertible("the model is TorchScript already; take torchscript-script", field="model")
    found = source(work, module)
    with recorded() as said:
        traced = _traced(found)
    return _save_script(work, found.method, found.signature, traced, said)


def export(work: Work) -> Made:
    """Export the program with the dynamic axes of the signature.

    Raises:
        NotConvertible: ``torch.export`` cannot follow the module, or it fixes an axis that is to be dynamic.
    """
    method, signature = chosen(work)
    program = program_of(work, signature)
    with replacing(work.target) as path:
        with quiet():
            torch.export.save(program, path)
        try_artifact(work, method, signature, path)
    return Made(methods=(method,), facts={**versions(), **row_limit(work, signature, program)})


def aoti(work: Work) -> Made:
    """Compile an exported program to machine code for this machine.

    Raises:
        MissingTool: there is no C++ compiler.
        NotConvertible: AOTInductor cannot compile it.
    """
    compiler = _compiler()
    method, signature = chosen(work)
    program = program_of(work, signature)
    settings = {
        "cpp.dynamic_threads": True,  # else the threads of this process would be compiled in
        "aot_inductor.metadata": {CPU_FLAGS: " ".join(sorted(cpu_flags()))},
    }
    compile_package: Any = torch._inductor.aoti_compile_and_package
    with replacing(work.target) as path:
        with quiet(), torch.no_grad():
            attempt(
                "AOTInductor",
                lambda: compile_package(program, package_path=str(path), inductor_configs=settings),
            )
        try_artifact(work, method, signature, path)
    facts: dict[str, Plain] = {**versions(), **row_limit(work, signature, program), "compiler": compiler}
    return Made(methods=(method,), facts=facts)


def onnx(work: Work) -> Made:
    """Export to ONNX by way of ``torch.export``.

    Raises:
        NotConvertible: an operation has no form in ONNX, or the opset is out of the exporter's reach.
    """
    from frameworks.convert.steps import onnx_file

    if importlib.util.find_spec("onnxscript") is None:
        raise base.missing("onnxscript", "convert")
    method, signature = chosen(work)
    program = program_of(work, signature)
    inputs, outputs = _names(program, signature)
    with recorded() as said:
        exported: Any = attempt(
            "the ONNX exporter",
            lambda: torch.onnx.export(
                program, (), dynamo=True, opset_version=work.settings.opset, verbose=False
            ),
        )
    model = exported.model_proto
    onnx_file.check_opset(model, work.settings.opset, Exporter.DYNAMO)
    onnx_file.name_tensors(model, method, signature, inputs, outputs)
    onnx_file.write(model, work.target, lambda path: try_artifact(work, method, signature, path))
    return Made(methods=(method,), facts=_onnx_facts(model, Exporter.DYNAMO, said))


def onnx_legacy(work: Work) -> Made:
    """Export to ONNX by tracing; TorchScript keeps its control flow.

    Raises:
        NotConvertible: an operation has no form in ONNX, or the opset is out of the exporter's reach.
    """
    import onnx as onnx_library

    from frameworks.convert.steps import onnx_file

    module = original(work)
    found = source(work, module)
    signature = found.signature
    exported: torch.nn.Module = found.module
    if isinstance(module, torch.jit.ScriptModule) and found.module is not module:
        with quiet():
            exported = _traced(found)  # the exporter knows compiled modules only at the top
    inputs = [spec.name for spec in signature.inputs or ()]
    outputs = [spec.name for spec in signature.outputs or ()]
    names = [f"input__{index}" for index in range(len(inputs))]
    results = [f"output__{index}" for index in range(len(outputs))]
    with tempfile.TemporaryDirectory(dir=work.target.parent, prefix=".onnx-") as folder:
        path = Path(folder) / "model.onnx"
        with recorded() as said, torch.no_grad(), _composed_attention():
            attempt(
                "the older ONNX exporter",
                lambda: torch.onnx.export(
                    exported,
                    found.example,
                    str(path),
                    dynamo=False,
                    opset_version=work.settings.opset,
                    input_names=names,
                    output_names=results,
                    dynamic_axes=dynamic_axes(signature, [*names, *results]),
                ),
            )
        model = onnx_library.load(str(path))
    onnx_file.check_opset(model, work.settings.opset, Exporter.LEGACY)
    onnx_file.restore_inputs(model, names, signature.inputs or ())
    onnx_file.name_tensors(model, found.method, signature, inputs, outputs)
    onnx_file.write(model, work.target, lambda path: try_artifact(work, found.method, signature, path))
    return Made(methods=(found.method,), facts=_onnx_facts(model, Exporter.LEGACY, said))


@contextmanager
def _composed_attention() -> Iterator[None]:
    """Trace attention as the operations that it is made of: its fast path has no form in ONNX."""
    was_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_on)


def _compiler() -> str:
    """Return the C++ compiler that torch would take."""
    named = os.environ.get("CXX", "").split()[:1]
    for name in named or _COMPILERS:
        if shutil.which(name) is not None:
            return name
    raise MissingTool(
        f"AOTInductor needs a C++ compiler, and {' '.join(named) or ', '.join(_COMPILERS)} is not here; "
        "install the package g++ (or build-essential), or name one in CXX",
        field="compiler",
    )


def _traced(found: Source) -> torch.jit.ScriptModule:
    record: Any = torch.jit.trace_module  # untyped
    name = "forward" if found.method == objects.CALL else found.method
    if name != "forward":
        setattr(found.module, name, found.module.forward)
    with torch.no_grad():
        result: torch.jit.ScriptModule = attempt(
            "torch.jit.trace", lambda: record(found.module, {name: found.example}, check_trace=False)
        )
    return result


def _names(program: torch.export.ExportedProgram, signature: Signature) -> tuple[list[str], list[str]]:
    """Return the specs' names of a program's inputs and outputs, in the program's order."""
    inputs = [spec.name for spec in signature.inputs or ()]
    outputs = [spec.name for spec in signature.outputs or ()]
    layout = layout_of(program)
    if layout.parameters.take(inputs):
        inputs = list(layout.names)
    count = program.call_spec.out_spec.num_leaves
    numbers = name_results(pytree.tree_unflatten(list(range(count)), program.call_spec.out_spec), outputs)
    by_number = {number: name for name, number in numbers.items()}
    return inputs, [by_number[number] for number in range(count)]


def _save_script(
    work: Work, method: str, signature: Signature, module: Any, said: Sequence[str] = ()
) -> Made:
    with replacing(work.target) as path:
        with quiet():
            torch.jit.save(module, str(path))
        try_artifact(work, method, signature, path)
    facts: dict[str, Plain] = versions()
    return Made(methods=(method,), facts={**facts, "warnings": list(said)} if said else facts)


def _onnx_facts(model: Any, exporter: Exporter, said: Sequence[str]) -> dict[str, Plain]:
    from onnx import __version__ as version

    from frameworks.convert.steps.onnx_file import opset_of

    facts = {**versions(), "onnx": version, "opset": opset_of(model), "exporter": exporter.value}
    return {**facts, "warnings": list(said)} if said else facts
