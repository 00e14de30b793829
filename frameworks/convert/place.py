"""Where something is executed, as it travels to the isolated processes."""

from __future__ import annotations

from dataclasses import dataclass

from frameworks.base import LoadOptions
from frameworks.convert.formats import RuntimeProvider
from store.plain import Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a subject is executed."""

    provider: RuntimeProvider
    device: str = "cpu"
    threads: int = 1

    @property
    def options(self) -> LoadOptions:
        """What an adapter is told."""
        settings: dict[str, Plain] = {}
        if self.provider is RuntimeProvider.CPU:
            settings["provider"] = "cpu"
        elif self.provider is RuntimeProvider.CUDA:
            settings["provider"] = "cuda"
        return LoadOptions(device=self.device, threads=self.threads, settings=settings)
