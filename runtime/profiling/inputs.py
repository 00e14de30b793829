"""Which requests a load consists of: models, rows and data, mixed by weight, encoded before the run.

A :class:`RequestSource` is a plain description; :meth:`RequestSource.prepare` turns it into a
``recording.Deck``, all requests in their encoded form and the order in which they are sent, again and
again. Generators only ever see decks: nothing is encoded while the load runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import InvalidInput
from runtime.profiling import data, recording
from runtime.profiling.recording import Deck, Payload

if TYPE_CHECKING:
    from runtime.client.codec import Parameter
    from runtime.client.results import TensorMetadata
    from runtime.profiling.target import Target
    from runtime.tensors.layout import Array

RowMix = tuple[tuple[int, float], ...]
Describe = Callable[[str, str], "Sequence[TensorMetadata]"]
"""From a model's name and version to its inputs."""

ONE_ROW: Final[RowMix] = ((1, 1.0),)
_ORDER: Final = 1024
"""Length of the order when several kinds of requests are mixed: shares come out exact to a thousandth."""

_MAX_BYTES: Final = 256 << 20
"""Encoded requests of one source; fewer different ones are made of larger requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequests:
    """Requests to one model.

    Attributes:
        model: its name.
        version: empty for the latest.
        method: empty for the model's default.
        weight: share among the models of a source, in any unit.
        rows: rows of a request with their weights; see :func:`parse_mix`.
        data: ``random``, ``zeros``, ``sample`` or the path of an npz or JSON file.
        store: folder of the model store that has the model's sample; for ``sample`` only.
        shapes: extents, without the batch axis, of inputs whose shape is open.
        parameters: request parameters such as ``priority``.
    """

    model: str
    version: str = ""
    method: str = ""
    weight: float = 1.0
    rows: RowMix = ONE_ROW
    data: str = "random"
    store: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSource:
    """Requests of one or several models, or a recording.

    Attributes:
        models: what is mixed.
        replay: path of a recording, sent in its order; then ``models`` is not used.
        distinct: how many different requests are made, over all kinds.
        seed: of values and order.

    Raises:
        InvalidInput: there is nothing to send, or a weight or number of rows is not positive.
    """

    models: tuple[ModelRequests, ...] = ()
    replay: str = ""
    distinct: int = 64
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.models and not self.replay:
            raise InvalidInput("name a model or a recording to replay", field="model")
        for model in self.models:
            if model.weight <= 0 or not model.rows:
                raise InvalidInput(f"model {model.model!r} needs a weight above 0 and rows", field="weight")
            if any(rows < 1 or weight <= 0 for rows, weight in model.rows):
                raise InvalidInput("rows and their weights must be above 0", field="rows")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the models; empty for a recording."""
        return tuple(model.model for model in self.models)

    def prepare(self, target: Target) -> Deck:
        """Ask the server for what its models take and encode the requests.

        Raises:
            InvalidInput: the data does not fit the model, or a file cannot be read.
            RpcFailed: the server does not know the model or does not answer.
        """
        if self.replay:
            return self._recorded()
        with target.open_client() as client:
            return self.encode(lambda name, version: client.model_metadata(name, version).inputs)

    def encode(self, describe: Describe) -> Deck:
        """Encode the requests; raises as :meth:`prepare` does."""
        total = sum(model.weight for model in self.models)
        kinds: list[tuple[float, list[Payload]]] = []
        for index, model in enumerate(self.models):
            inputs = data.slots(describe(model.model, model.version), model.shapes)
            pool = _pool(model, inputs, self.distinct, self.seed + index)
            rows_total = sum(weight for _, weight in model.rows)
            for rows, weight in model.rows:
                share = model.weight / total * weight / rows_total
                made = _encode(model, pool, rows, max(1, round(self.distinct * share)))
                kinds.append((share, list(_bounded(made, round(_MAX_BYTES * share)))))
        return _deck(kinds, self.seed)

    def _recorded(self) -> Deck:
        try:
            with Path(self.replay).expanduser().open("rb") as file:
                payloads = tuple(recording.read(file, self.replay))
        except OSError as error:
            raise InvalidInput(f"{self.replay}: {error.strerror or error}", field="replay") from error
        if not payloads:
            raise InvalidInput(f"{self.replay} has no requests", field="replay")
        return Deck(payloads, tuple(range(len(payloads))))


def parse_mix(text: str) -> RowMix:
    """Read ``4`` or ``1:0.8,4:0.2``: rows with their weights.

    Raises:
        InvalidInput: it has another form.
    """
    mix = []
    for part in text.split(","):
        rows, _, weight = part.partition(":")
        try:
            mix.append((int(rows), float(weight or 1.0)))
        except ValueError:
            raise InvalidInput(f"rows are like 4 or 1:0.8,4:0.2, not {text!r}", field="rows") from None
    if any(rows < 1 or not weight > 0 for rows, weight in mix):
        raise InvalidInput(f"rows and their weights must be above 0: {text!r}", field="rows")
    return tuple(mix)


def _pool(model: ModelRequests, inputs: Sequence[data.Slot], distinct: int, seed: int) -> data.Pool:
    if model.data == "sample":
        return data.Pool(inputs, _sample(model))
    if model.data in {"random", "zeros"}:
        most = max(rows for rows, _ in model.rows)
        return data.generated(model.data, inputs, max(distinct, most), seed)
    return data.from_file(model.data, inputs)


def _sample(model: ModelRequests) -> Mapping[str, Array]:
    from frameworks import sample
    from store import ModelStore

    if not model.store:
        raise InvalidInput("the sample lies in the model's store: name the folder", field="store")
    tag = f"{model.model}:{model.version or 'latest'}"
    found = sample.load(ModelStore(model.store).get(tag), model.method or None)
    if found is None:
        raise InvalidInput(f"{tag} was saved without a sample that fits", field="data")
    return found


def _encode(model: ModelRequests, pool: data.Pool, rows: int, distinct: int) -> Iterator[Payload]:
    from runtime.client.codec import Inference, infer_request

    for _ in range(distinct):
        inference = Inference(
            model=model.model,
            version=model.version,
            method=model.method or None,
            inputs=pool.draw(rows),
            outputs=None,
            parameters=model.parameters,
            request_id="",
        )
        yield Payload(data=infer_request(inference), rows=rows, label=model.model)


def _bounded(payloads: Iterator[Payload], limit_bytes: int) -> Iterator[Payload]:
    """The first one, and as many more as the limit allows."""
    size = 0
    for payload in payloads:
        size += len(payload.data)
        if size > limit_bytes and size > len(payload.data):
            return
        yield payload


def _deck(kinds: Sequence[tuple[float, list[Payload]]], seed: int) -> Deck:
    """Put the kinds into one order: each has its share exactly, in random places."""
    payloads = tuple(payload for _, made in kinds for payload in made)
    if len(kinds) == 1:
        return Deck(payloads, tuple(range(len(payloads))))
    order: list[int] = []
    first, wanted = 0, 0.0
    for share, made in kinds:
        wanted += share
        size = max(1, round(wanted * _ORDER) - len(order))
        order += [first + index % len(made) for index in range(size)]
        first += len(made)
    random.Random(seed).shuffle(order)
    return Deck(payloads, tuple(order))
