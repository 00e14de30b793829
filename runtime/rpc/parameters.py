"""What a request's parameters ask for.

Source: Triton's parameters and schedule policy extensions (docs/protocol/extension_parameters.md,
extension_schedule_policy.md). Parameters that nobody knows are passed over, as there.
"""

from __future__ import annotations

import re
from typing import Any, Final

from runtime.clock import LONGEST_NS
from runtime.errors import InvalidInput, NotSupported

_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")
_MICROSECOND: Final = 1_000


def check(parameters: Any, field: str) -> None:
    """Refuse what is not offered.

    Raises:
        NotSupported: shared memory or sequences are asked for (UNIMPLEMENTED).
    """
    for name in parameters:
        if name.startswith("shared_memory_"):
            raise NotSupported(
                f"{field}.{name}: this server does not read shared memory", field=f"{field}.{name}"
            )
        if name.startswith("sequence_"):
            raise NotSupported(
                f"{field}.{name}: the model keeps no state between calls", field=f"{field}.{name}"
            )


def method(parameters: Any) -> str | None:
    """The method named, None if none is.

    Raises:
        InvalidInput: its name is no text (INVALID_ARGUMENT).
    """
    named = parameters.get("method")
    if named is None:
        return None
    if named.WhichOneof("parameter_choice") != "string_param":
        raise InvalidInput("parameters.method must be a string", field="parameters.method")
    return str(named.string_param)


def priority(parameters: Any, levels: int) -> int:
    """The level asked for, of which 1 is the most urgent; 0 for the model's default.

    As in Triton, 0 and what is beyond the model's levels stand for the default.

    Raises:
        InvalidInput: it is no whole number, or negative (INVALID_ARGUMENT).
    """
    level = _whole(parameters, "priority")
    if level < 0:
        raise InvalidInput(
            f"parameters.priority is {level}; 1 is the most urgent level", field="parameters.priority"
        )
    return level if level <= levels else 0


def timeout_ns(parameters: Any) -> int:
    """The nanoseconds within which the caller wants the answer (sent as microseconds), 0 for any.

    Raises:
        InvalidInput: it is no whole number (INVALID_ARGUMENT).
    """
    return min(max(0, _whole(parameters, "timeout")) * _MICROSECOND, LONGEST_NS)


def typed(parameters: Any) -> bool:
    """Whether the answer's tensors are wanted in ``contents`` instead of raw."""
    return "binary_data_output" in parameters and not parameters["binary_data_output"].bool_param


def _whole(parameters: Any, name: str) -> int:
    """A whole number, or one written in decimal digits; 0 if it is not there."""
    parameter = parameters.get(name)
    if parameter is None:
        return 0
    kind = parameter.WhichOneof("parameter_choice")
    if kind in ("int64_param", "uint64_param"):
        return int(getattr(parameter, kind))
    if kind == "string_param" and _NUMBER.fullmatch(parameter.string_param):
        return int(parameter.string_param)
    raise InvalidInput(f"parameters.{name} must be a whole number", field=f"parameters.{name}")
