"""Builds infer responses: the part that is equal for equal requests once, the tensors each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from protos import open_inference_pb2 as pb
from runtime.batching.task import Buffer
from runtime.errors import InvalidInput
from runtime.rpc.typed import fill_contents
from runtime.tensors.layout import Layout
from runtime.tensors.padding import Crop, crop, cropped
from runtime.tensors.wire import raw_output_header, response_id

_NONE: Final[Mapping[str, Sequence[Crop]]] = MappingProxyType({})


class Template:
    """The response to requests of one plan, for one layout of outputs.

    Args:
        name, version: of the model that answers.
        layout: the outputs that the worker sends.
        rows: of the request.
        wanted: names of the outputs to answer with, in this order; None for all.
        typed: put the tensors into ``contents`` instead of ``raw_output_contents``.
        crops: what of the outputs, by name, is there only because the inputs were padded.

    Raises:
        InvalidInput: an output is wanted that the model does not have.
        OutputMismatch: an output is not as long as the inputs were padded to be.
    """

    __slots__ = ("_chosen", "_cuts", "_headers", "_is_plain", "_prefix", "_response", "_typed", "layout")

    def __init__(
        self,
        name: str,
        version: str,
        layout: Layout,
        rows: int,
        wanted: tuple[str, ...] | None,
        *,
        typed: bool,
        crops: Mapping[str, Sequence[Crop]] = _NONE,
    ) -> None:
        self.layout = layout
        self._chosen = _choose(layout, wanted)
        self._typed = typed
        self._response = pb.ModelInferResponse(model_name=name, model_version=version)
        tensors = cropped(layout, crops) if crops else layout.tensors
        self._cuts = [
            (position, whole, whole.shape(rows), tensors[position].shape(rows))
            for position, whole in enumerate(layout.tensors)
            if position in self._chosen and tensors[position] is not whole
        ]
        headers: list[bytes | None] = []
        for position in self._chosen:
            tensor = tensors[position]
            self._response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape(rows))
            size = tensor.row_bytes * (rows if -1 in tensor.dims else 1)
            headers.append(None if tensor.variable else raw_output_header(size))
        self._prefix = self._response.SerializeToString()
        self._headers = headers
        if headers and headers[0] is not None:
            self._prefix += headers[0]
            headers[0] = b""
        self._is_plain = (
            headers == [b""] and len(layout.tensors) == 1 and not typed and not self._cuts
        )  # the usual case: one join

    def fill(self, identity: bytes, buffers: Sequence[Buffer]) -> bytes:
        """The encoded response with these tensors, which come in the layout's order."""
        if self._is_plain and not identity:
            return b"".join((self._prefix, buffers[0]))
        if self._cuts:
            buffers = list(buffers)
            for position, tensor, shape, kept in self._cuts:
                buffers[position] = crop(tensor, buffers[position], shape, kept)
        if self._typed:
            return self._fill_typed(identity, buffers)
        parts: list[Buffer] = [self._prefix]
        for position, header in zip(self._chosen, self._headers, strict=True):
            buffer = buffers[position]
            if header is None:
                header = raw_output_header(len(buffer))
            if header:
                parts.append(header)
            parts.append(buffer)
        if identity:
            parts.append(response_id(identity))
        return b"".join(parts)

    def _fill_typed(self, identity: bytes, buffers: Sequence[Buffer]) -> bytes:
        response = pb.ModelInferResponse()
        response.CopyFrom(self._response)
        response.id = identity.decode()
        for output, position in zip(response.outputs, self._chosen, strict=True):
            fill_contents(output, bytes(buffers[position]))
        return response.SerializeToString()


def _choose(layout: Layout, wanted: tuple[str, ...] | None) -> list[int]:
    """Positions in the layout of the outputs to send."""
    if wanted is None:
        return list(range(len(layout.tensors)))
    names = [tensor.name for tensor in layout.tensors]
    for name in wanted:
        if name not in names:
            raise InvalidInput(
                f"unknown output {name!r}; the outputs are {', '.join(names)}", field=f"outputs[{name!r}]"
            )
    return [names.index(name) for name in wanted]
