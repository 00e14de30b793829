"""Keeping torch's advice to use other formats from those who use the ones that they have chosen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ADVICE: Final = (DeprecationWarning, FutureWarning)
"""Categories of the advice: the first up to torch 2.13, the other in newer releases."""


@contextmanager
def quiet() -> Iterator[None]:
    """Drop the advice while a block runs."""
    with warnings.catch_warnings():
        for category in ADVICE:
            warnings.simplefilter("ignore", category)
        yield
