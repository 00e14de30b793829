"""Calling what a ``.pt2`` file holds by names or positions, and what a program says of its own tensors.

An exported program takes exactly the positions and keywords with which it was exported, and says so with an
``AssertionError`` when an extent is out of its range. A compiled package takes a list, and checks nothing at
all: a wrong datatype or extent is read as if it were right. So what goes in is arranged and checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from frameworks import base
from frameworks.calling import Parameters, name_results
from frameworks.errors import InvalidModel, UnsupportedInput
from frameworks.pt.tensors import to_array
from store import Signature, TensorSpec, datatypes
from store.signature import DYNAMIC

try:
    import torch
    from torch.utils import _pytree as pytree  # what the file's own records of its arguments are written with
except ModuleNotFoundError as error:
    raise base.missing("torch", "torch") from error

_GUARD: Final = "Guard failed: "
"""Start of the text of a program's refusal. Source: torch 2.13, seen."""

_MODEL: Final = "model"
"""Name of the model in a package. Source: torch 2.13, ``aoti_compile_and_package``."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a program's arguments are laid out.

    Args:
        names: of the tensors, in order; positional ones first. Empty texts where nothing is known.
        positional: how many of all arguments go by position.
        keywords: names of the others.
        constants: index among all arguments to the value, of those that are no tensors.
    """

    names: tuple[str, ...]
    positional: int
    keywords: tuple[str, ...]
    constants: Mapping[int, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls, spec: Any, names: Sequence[str] = (), constants: Mapping[int, object] | None = None
    ) -> Layout:
        """Read torch's own record.

        Args:
            spec: of the arguments: a pair of positions and keywords.
            names: of the positional ones, where they are known.
            constants: see the class.

        Raises:
            InvalidModel: an argument is a list or mapping of tensors.
        """
        positions, keywords = spec.child(0), spec.child(1)
        if not all(one.is_leaf() for part in (positions, keywords) for one in part.children()):
            raise InvalidModel(
                "the program takes lists or mappings of tensors; export one that takes each tensor by itself",
                field="model",
            )
        count, fixed = positions.num_children, constants or {}
        words = tuple(keywords.context or ())
        known = (*(names[:count] if len(names) >= count else [""] * count), *words)
        return cls(
            names=tuple(name for index, name in enumerate(known) if index not in fixed),
            positional=count,
            keywords=words,
            constants=fixed,
        )

    @property
    def parameters(self) -> Parameters:
        """What can be given by keyword."""
        known = self.names if all(self.names) else ()
        return Parameters(names=known, required=frozenset(known), keywords_suffice=bool(known))

    def arrange(self, args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
        """Return every argument in the program's order.

        Raises:
            UnsupportedInput: another number of tensors, or other names.
        """
        if len(args) + len(kwargs) != len(self.names) or not set(kwargs) <= set(self.names):
            said = ", ".join(name or "one without a name" for name in self.names)
            raise UnsupportedInput(
                f"the program takes {len(self.names)} inputs ({said}), not {len(args) + len(kwargs)} "
                f"({', '.join(kwargs) or 'by position'})"
            )
        tensors = iter([kwargs[name] for name in self.names] if kwargs else args)
        count = self.positional + len(self.keywords)
        return [self.constants[index] if index in self.constants else next(tensors) for index in range(count)]


class Program:
    """An exported program, called like the module that it was made of."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.layout = layout_of(program)
        self._module: Any = program.module()

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run it.

        Raises:
            UnsupportedInput: an extent is out of the range for which it was exported.
        """
        values = self.layout.arrange(args, kwargs)
        positions, others = values[: self.layout.positional], values[self.layout.positional :]
        try:
            return self._module(*positions, **dict(zip(self.layout.keywords, others, strict=True)))
        except AssertionError as error:
            text = str(error)
            if not text.startswith(_GUARD):
                raise
            raise UnsupportedInput(
                f"the exported program takes only inputs with {text.removeprefix(_GUARD)}; export it with a "
                "wider range to send others"
            ) from error


class Package:
    """A compiled package, called likewise.

    Args:
        path: of the ``.pt2`` file; its machine was checked.
        device: where it was compiled to run.
        inputs: specs of its inputs, by position; None while they are not known yet.

    Raises:
        InvalidModel: torch cannot load it.
    """

    def __init__(self, path: Path, device: torch.device, inputs: Sequence[TensorSpec] | None) -> None:
        index = -1 if device.index is None else device.index
        try:
            # torch's own function compiles a test program first, which takes seconds and a compiler.
            self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), _MODEL, False, 1, index)
        except RuntimeError as error:
            raise InvalidModel(
                f"torch cannot load the AOTInductor package: {error}", field="model"
            ) from error
        taken, given = (pytree.treespec_loads(text) for text in self._loader.get_call_spec())
        self.layout = Layout.of(taken)
        if inputs is not None and len(inputs) != len(self.layout.names):
            # Arguments that are no tensors were compiled in, and nothing tells which they were.
            self.layout = Layout(names=("",) * len(inputs), positional=len(inputs), keywords=())
        self._results = given
        self._inputs = inputs
        known = {spec.name: spec for spec in inputs or ()}
        if set(known) == set(self.layout.names):  # given by keyword, so in any order
            self._inputs = [known[name] for name in self.layout.names]

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run it.

        Raises:
            UnsupportedInput: an input differs from its spec.
        """
        values: list[Any] = self.layout.arrange(args, kwargs)
        for value, spec in zip(values, self._inputs or (), strict=self._inputs is not None):
            _check(value, spec)
        return pytree.tree_unflatten(self._loader.boxed_run(values), self._results)


def layout_of(program: torch.export.ExportedProgram) -> Layout:
    """Return how a program's arguments are laid out.

    Raises:
        InvalidModel: an argument is a list or mapping of tensors.
    """
    user = [one.arg for one in program.graph_signature.input_specs if one.kind.name == "USER_INPUT"]
    constants = {index: arg.value for index, arg in enumerate(user) if hasattr(arg, "value")}
    return Layout.of(program.call_spec.in_spec, [arg.name for arg in user], constants)


def describe(program: torch.export.ExportedProgram, signature: Signature) -> Signature:
    """Return the signature with the program's own specs where it has none.

    Raises:
        InvalidSignature: the method is to be batchable, but the program fixes the batch axis.
    """
    tensors = _tensors(program, "placeholder")
    inputs = [tensors.get(name) for name in program.graph_signature.user_inputs]
    names = layout_of(program).names
    taken = [value for value in inputs if value is not None]
    results = pytree.tree_unflatten(_results(program), program.call_spec.out_spec)
    given = name_results(results, [spec.name for spec in signature.outputs or ()])
    return replace(
        signature,
        inputs=signature.inputs or _specs(dict(zip(names, taken, strict=True))),
        outputs=signature.outputs or _specs(given),
    )


def batch_limit(program: torch.export.ExportedProgram, axis: int) -> int | None:
    """Return the most rows that a program takes along an axis of its inputs; None without a limit.

    Raises:
        InvalidModel: the axis is fixed.
    """
    tensors = _tensors(program, "placeholder")
    limits = []
    for name in program.graph_signature.user_inputs:
        if name not in tensors:
            continue
        shape = tensors[name].shape
        if len(shape) <= axis or isinstance(shape[axis], int):
            raise InvalidModel(
                f"the exported program fixes axis {axis} of {name!r}; a batchable method needs it dynamic: "
                "export with dynamic_shapes and an example of at least two rows",
                field=str(name),
            )
        extent: Any = shape[axis]
        upper = program.range_constraints.get(extent.node.expr)
        if upper is not None and upper.upper.is_Integer:  # else it is infinite
            limits.append(int(upper.upper))
    return min(limits, default=None)


def _tensors(program: torch.export.ExportedProgram, kind: str) -> dict[str, torch.Tensor]:
    found = ((str(node.name), node.meta.get("val")) for node in program.graph.nodes if node.op == kind)
    return {name: value for name, value in found if isinstance(value, torch.Tensor)}


def _results(program: torch.export.ExportedProgram) -> list[Any]:
    """Return what stands for each result in the graph."""
    nodes = {str(node.name): node.meta.get("val") for node in program.graph.nodes if node.op != "output"}
    user = [one.arg for one in program.graph_signature.output_specs if one.kind.name == "USER_OUTPUT"]
    return [arg.value if hasattr(arg, "value") else nodes[arg.name] for arg in user]


def _specs(values: Mapping[str, Any]) -> tuple[TensorSpec, ...] | None:
    """Return the specs of tensors of the graph; None when one is no plain tensor or has no name."""
    specs = []
    for name, value in values.items():
        if not isinstance(value, torch.Tensor) or not name:
            return None
        shape = tuple(size if isinstance(size, int) else DYNAMIC for size in value.shape)
        specs.append(TensorSpec(name, _datatype(value.dtype), shape))
    return tuple(specs)


@cache
def _datatype(dtype: torch.dtype) -> str:
    return datatypes.from_numpy(to_array(torch.empty(0, dtype=dtype)).dtype)


def _check(value: Any, spec: TensorSpec) -> None:
    kind = _datatype(value.dtype)
    fits = len(value.shape) == len(spec.shape) and all(
        wanted in (DYNAMIC, size) for size, wanted in zip(value.shape, spec.shape, strict=True)
    )
    if kind != spec.datatype or not fits:
        raise UnsupportedInput(
            f"input {spec.name!r} must be {spec.datatype} {list(spec.shape)}, not {kind} {list(value.shape)}",
            field=spec.name,
        )
