"""What a conversion run is asked for, and what it tells while it is at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from frameworks.convert.formats import RuntimeProvider, Status, Variant
from frameworks.convert.isolate import Limits
from frameworks.convert.work import Settings
from store.plain import Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run is asked for.

    Args:
        targets: variants to make; none asks for everything that the source can become.
        providers: runtimes to execute them on, where a format has a choice; none asks for all that are here.
        settings: of the conversions.
        limits: of each step.
        steps: steps of the caller's own, ``module:function``, in place of ours.
        verify: compare the results with the source's answers.
        measure: ``module:function`` that measures speed, ``(method, batch, settings) -> [Performance]``;
            empty for none.
        measure_settings: what that function is given.
    """

    targets: tuple[Variant, ...] = ()
    providers: tuple[RuntimeProvider, ...] = ()
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    steps: Mapping[Variant, str] = field(default_factory=dict)
    verify: bool = True
    measure: str = ""
    measure_settings: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a run has begun or done.

    Args:
        stage: ``source``, ``convert``, ``verify`` or ``profile``.
        subject: of what, for people.
        status: how it ended; None when it begins.
        message: why it did not go well.
        seconds: how long it took.
        done: steps that are behind us.
        total: steps in all, as far as is known; never below ``done``.
    """

    stage: str
    subject: str
    status: Status | None = None
    message: str = ""
    seconds: float = 0.0
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]
