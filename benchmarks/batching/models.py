"""Synthetic models: one execution of b rows takes alpha + beta * b, with or without noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from runtime.clock import MILLISECOND, SECOND

NOISE: Final = 0.05
"""Standard deviation of the logarithm of an execution time."""
OUTLIERS: Final = 0.002
OUTLIER_FACTOR: Final = 4.0
"""One execution in five hundred takes four times as long."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a model costs.

    Attributes:
        name: in tables.
        alpha_ms: of each execution.
        beta_ms: of each row.
        limit: most rows of a batch.
        slos_ms: a tight and a loose deadline for it.
    """

    name: str
    alpha_ms: float = field(repr=False)
    beta_ms: float = field(repr=False)
    limit: int = field(repr=False)
    slos_ms: tuple[float, float] = field(repr=False)

    def ms(self, rows: int) -> float:
        """Duration of one execution, without noise."""
        return self.alpha_ms + self.beta_ms * rows

    def ns(self, rows: int) -> float:
        """The same in nanoseconds."""
        return self.ms(rows) * MILLISECOND

    @property
    def full_rate(self) -> float:
        """Rows per nanosecond that one instance executes in full batches."""
        return self.limit / self.ns(self.limit)


MLP: Final = Model("MLP, CPU", 0.15, 0.02, 64, (2, 5))
RESNET_CPU: Final = Model("ResNet, CPU", 2, 8, 8, (40, 160))
RESNET50: Final = Model("ResNet50, GPU", 3, 0.15, 32, (12, 30))
BERT: Final = Model("BERT, GPU", 6, 0.4, 32, (25, 60))
MODELS: Final = (MLP, RESNET_CPU, RESNET50, BERT)


def per_second(rate: float) -> float:
    """Turn a rate per nanosecond into one per second."""
    return rate * SECOND


def noise(normal: float, uniform: float) -> float:
    """What to multiply an execution time with.

    Args:
        normal: drawn from the standard normal distribution.
        uniform: drawn from 0 to 1.
    """
    return math.exp(NOISE * normal) * (OUTLIER_FACTOR if uniform < OUTLIERS else 1.0)
