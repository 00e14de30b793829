"""Inputs for models of transformers: random ones that suit a configuration, or rows of a dataset, tokenised.

A batch is a mapping of input name to tensor with the rows along axis 0. Names are in the order of the model's
own parameters. The same arguments give the same tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from frameworks import base
from runtime.convert.reading import InvalidArguments

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "transformers") from error

Batch: TypeAlias = "Mapping[str, torch.Tensor]"

LENGTHS: Final = (8, 16)
"""Tokens of random inputs: two lengths, so that the axis is seen to be dynamic."""

ROWS: Final = 100
"""Most rows that are read of a dataset."""

_TEXT: Final = "input_ids"
_IMAGE: Final = "pixel_values"


def random(
    model: Any,
    lengths: Sequence[int] | None,
    image_size: int | tuple[int, int] | None,
    rows: int,
) -> list[Batch]:
    """Return random batches that the model can execute.

    Args:
        model: of transformers.
        lengths: tokens of each batch of texts.
        image_size: side, or height and width, of images.
        rows: of each batch.

    Raises:
        InvalidArguments: the model takes neither texts nor images, a length is more than it can take, or its
            configuration does not say how large images are.
    """
    _check_rows(rows)
    seeded = torch.Generator().manual_seed(0)
    main = str(model.main_input_name)
    if main == _IMAGE:
        shape = (rows, int(getattr(model.config, "num_channels", 3)), *_pixels(model.config, image_size))
        return [{_IMAGE: torch.rand(shape, generator=seeded)} for _ in LENGTHS]
    if main != _TEXT:
        raise InvalidArguments(
            f"inputs for {type(model).__name__}, which takes {main}, cannot be made up; give a dataloader",
            field="dataloader",
        )
    return [_text(model, rows, length, seeded) for length in _lengths(model.config, lengths)]


def tokenised(
    model: Any,
    dataset: Iterable[Any],
    tokenizer: Any,
    preprocess: Callable[[Any], Any] | None,
    rows: int,
) -> list[Batch]:
    """Return batches of a dataset's first rows.

    Args:
        model: of transformers; what it does not take is left out.
        dataset: texts, pairs of texts, or mappings of the tokenizer's keywords.
        tokenizer: of transformers.
        preprocess: turns one row into one of these.
        rows: of each batch; one where the tokenizer cannot pad.

    Raises:
        InvalidArguments: there is no tokenizer, there are no rows, or one cannot be tokenised.
    """
    _check_rows(rows)
    if tokenizer is None:
        raise InvalidArguments("a dataset needs a tokenizer; or give a dataloader", field="tokenizer")
    if tokenizer.pad_token_id is None:
        rows = 1
    most = _positions(model.config)
    taken = _parameters(model)
    items = iter(dataset)
    batches: list[Batch] = []
    for start in range(0, ROWS, rows):
        chunk = list(islice(items, min(rows, ROWS - start)))
        if not chunk:
            break
        try:
            tokens = tokenizer(
                **_keywords([row if preprocess is None else preprocess(row) for row in chunk]),
                padding=len(chunk) > 1,
                truncation=most is not None,
                max_length=most,
                return_tensors="pt",
            )
        except Exception as error:
            raise InvalidArguments(
                f"rows {start} to {start + len(chunk) - 1} cannot be tokenised: {error!r}", field="dataset"
            ) from error
        batches.append({name: tokens[name] for name in taken if name in tokens})
    if not batches:
        raise InvalidArguments("the dataset has no rows", field="dataset")
    return batches


def first_of(dataloader: Any) -> Batch:
    """Return a dataloader's first batch.

    Raises:
        InvalidArguments: there is none, or it is no mapping of names to tensors.
    """
    first = next(iter(dataloader), None)
    if not isinstance(first, Mapping) or not first:
        raise InvalidArguments(
            f"the dataloader must give mappings of input names to tensors, not {type(first).__name__}",
            field="dataloader",
        )
    return {str(name): torch.as_tensor(value) for name, value in first.items()}


def _text(model: Any, rows: int, length: int, seeded: torch.Generator) -> Batch:
    """Return random tokens; the last row ends in padding, as in real batches."""
    config = model.config.get_text_config()
    special = {getattr(config, f"{kind}_token_id", None) for kind in ("pad", "bos", "eos")}
    usual = torch.tensor([token for token in range(int(config.vocab_size)) if token not in special])
    mask = torch.ones(rows, length, dtype=torch.int64)
    if rows > 1:
        mask[-1, length - length // 4 :] = 0
    made = {
        _TEXT: usual[torch.randint(len(usual), (rows, length), generator=seeded)],
        "attention_mask": mask,
    }
    if getattr(config, "type_vocab_size", 0) > 1:
        made["token_type_ids"] = (torch.arange(length) >= length // 2).to(torch.int64).repeat(rows, 1)
    return {name: made[name] for name in _parameters(model) if name in made}


def _lengths(config: Any, given: Sequence[int] | None) -> Sequence[int]:
    most = _positions(config)
    if given is None:
        return LENGTHS if most is None else sorted({min(length, most) for length in LENGTHS})
    if not given or any(length < 1 or (most is not None and length > most) for length in given):
        raise InvalidArguments(
            f"sequence_lengths must be numbers from 1 to {most or 'any'}, not {list(given)}",
            field="sequence_lengths",
        )
    return given


def _positions(config: Any) -> int | None:
    """Return how many tokens the model can take; None when its configuration sets no limit."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(found, int) or found < 1:
        return None
    # Two kinds of models count positions from beyond the padding token's number.
    offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    return found - offset


def _pixels(config: Any, given: int | tuple[int, int] | None) -> tuple[int, int]:
    size = getattr(config, "image_size", None) if given is None else given
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    raise InvalidArguments(
        f"a {type(config).__name__} does not say how large images are; give image_size", field="image_size"
    )


def _parameters(model: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(model.forward).parameters)


def _keywords(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the tokenizer's keywords for rows of one kind."""
    first = rows[0]
    if isinstance(first, Mapping):
        return {str(name): [row[name] for row in rows] for name in first}
    if isinstance(first, tuple | list):
        return {"text": [row[0] for row in rows], "text_pair": [row[1] for row in rows]}
    return {"text": list(rows)}


def _check_rows(rows: int) -> None:
    if rows < 1:
        raise InvalidArguments(f"batch_size must be at least 1, not {rows}", field="batch_size")
