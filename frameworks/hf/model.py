"""Calling a model of transformers with named tensors, and naming the tensors that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from frameworks import base, objects
from frameworks.base import Kinds, LoadOptions
from frameworks.calling import Caller, Parameters
from frameworks.errors import InvalidOutput
from frameworks.hf.tasks import GENERATING
from frameworks.pt.tensors import InferenceCall, device_of, to_array, to_tensor
from store import Signature

try:
    import torch
except ModuleNotFoundError as error:
    raise base.missing("torch", "transformers") from error

SETTINGS: Final[Mapping[str, Kinds]] = {"dtype": str, **GENERATING}
"""Load settings of a model; those of ``generate`` have no meaning for other methods."""

_GENERATE: Final = "generate"
_NOT_TENSORS: Final = frozenset({"past_key_values", "use_cache"})
_CONVERTING: Final = ("float16", "bfloat16", "float32")


def bind(model: Any, signatures: Mapping[str, Signature], options: LoadOptions) -> dict[str, Caller]:
    """Return one caller per method. The model's own configuration is set so that outputs have names.

    Raises:
        InvalidModel: a method is missing.
    """
    place = device_of(options.device)
    _answer_by_name(model.config)
    methods = {}
    for name, signature in signatures.items():
        function: Any = objects.function_of(model, name)
        parameters = Parameters.of(model.forward if name == objects.CALL else function)
        call = _ModelCall(model, name, function, signature, options.settings)
        methods[name] = Caller(
            InferenceCall(call, options.threads, into=lambda array: to_tensor(array, place)),
            signature,
            parameters=_of_tensors(parameters, model, name),
            out=to_array,
        )
    return methods


class _ModelCall:
    """Calls one method and keeps the tensors of what it returns."""

    def __init__(
        self,
        model: Any,
        name: str,
        function: Callable[..., object],
        signature: Signature,
        settings: Mapping[str, Any],
    ) -> None:
        self._function = function
        self._name = name
        self._wanted = frozenset(spec.name for spec in signature.outputs or ())
        self._keywords = (
            {key: value for key, value in settings.items() if key in GENERATING} if name == _GENERATE else {}
        )
        converts = settings.get("dtype") in _CONVERTING
        self._dtype: torch.dtype | None = model.dtype if converts else None

    def __call__(self, *tensors: Any, **named: Any) -> object:
        """Return the tensors by name, or the only one.

        Raises:
            InvalidOutput: there are none, or not those that the signature names.
        """
        args = [self._into(tensor) for tensor in tensors]
        given = {name: self._into(tensor) for name, tensor in named.items()}
        result = self._function(*args, **given, **self._keywords)
        if isinstance(result, torch.Tensor):
            return {"sequences": result} if self._name == _GENERATE else self._out(result)
        if not isinstance(result, Mapping):
            return result
        found = {name: self._out(value) for name, value in result.items() if isinstance(value, torch.Tensor)}
        lacking = self._wanted - found.keys()
        if lacking or not found:
            raise InvalidOutput(
                f"the model returned the tensors {', '.join(found) or 'none'}; its signature names "
                f"{', '.join(sorted(lacking)) or 'none'} besides"
            )
        return {name: value for name, value in found.items() if not self._wanted or name in self._wanted}

    def _into(self, tensor: Any) -> Any:
        """Return a tensor in the datatype that is computed in; only where one was asked for."""
        floating = self._dtype is not None and isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        return tensor.to(self._dtype) if floating else tensor

    def _out(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return FP32 where another datatype was asked for: a setting must not change the contract."""
        return tensor.float() if self._dtype is not None and tensor.is_floating_point() else tensor


def _answer_by_name(config: Any) -> None:
    """Have outputs returned by name, and no cache built that nobody is given."""
    nested = config.get_text_config() if hasattr(config, "get_text_config") else config
    for each in (config, nested):
        if hasattr(each, "use_cache"):
            each.use_cache = False
        each.return_dict = True


def _of_tensors(parameters: Parameters, model: Any, name: str) -> Parameters:
    """Return the parameters that tensors are given to; ``generate`` passes the model's own through."""
    names = [each for each in parameters.names if each not in _NOT_TENSORS]
    if name == _GENERATE:
        names = [str(model.main_input_name), "attention_mask"]
    return Parameters(
        names=tuple(names),
        required=frozenset() if name == _GENERATE else parameters.required,
        open_ended=parameters.open_ended,
        keywords_suffice=parameters.keywords_suffice,
    )
