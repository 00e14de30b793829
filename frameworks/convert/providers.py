"""What can execute a variant on this machine, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from frameworks.convert.formats import Format, RuntimeProvider, Variant
from frameworks.convert.place import Place

NO_GPU: Final = (
    "needs an NVIDIA GPU: its driver's library libcuda.so.1 is not on this machine, or it finds no card"
)

_OF_FORMAT: Final = {
    Format.TORCHSCRIPT: (RuntimeProvider.PYT,),
    Format.TORCH_EXPORT: (RuntimeProvider.PYT,),
    Format.TORCH_AOTI: (RuntimeProvider.PYT,),
    Format.TORCH_TRT: (RuntimeProvider.PYT,),
    Format.TF_SAVEDMODEL: (RuntimeProvider.TF,),
    Format.TF_TRT: (RuntimeProvider.TF,),
    Format.ONNX: (RuntimeProvider.CPU, RuntimeProvider.CUDA, RuntimeProvider.TRT),
    Format.TENSORRT: (RuntimeProvider.TRT,),
}
_OF_SOURCE: Final = {
    "pytorch": RuntimeProvider.PYT,
    "transformers": RuntimeProvider.PYT,
    "torchscript": RuntimeProvider.PYT,
    "torch_export": RuntimeProvider.PYT,
    "tensorflow": RuntimeProvider.TF,
}
_ON_GPU: Final = frozenset({RuntimeProvider.CUDA, RuntimeProvider.TRT})
_GPU_FORMATS: Final = frozenset({Format.TORCH_TRT, Format.TF_TRT, Format.TENSORRT})


def of_source(module: str) -> RuntimeProvider:
    """Return what executes the models of an adapter."""
    return _OF_SOURCE.get(module, RuntimeProvider.CPU)


def of_variant(
    variant: Variant, asked: Collection[RuntimeProvider], has_gpu: bool
) -> tuple[RuntimeProvider, ...]:
    """Return what is to execute a variant.

    Args:
        variant: any.
        asked: the runtimes to choose from, where the format has a choice; none asks for all that can run.
        has_gpu: the machine has one.
    """
    known = _OF_FORMAT[variant.format]
    if len(known) == 1:
        return known
    if asked:
        return tuple(provider for provider in known if provider in asked)
    return tuple(provider for provider in known if has_gpu or provider not in _ON_GPU)


def needs_gpu(variant: Variant, provider: RuntimeProvider) -> bool:
    """Return whether a variant cannot be executed by the runtime without a GPU."""
    return provider in _ON_GPU or variant.format in _GPU_FORMATS


def place(provider: RuntimeProvider, device: str, threads: int, on_gpu: bool) -> Place:
    """Return where a runtime executes, given the device that was asked for."""
    if on_gpu:
        return Place(
            provider=provider, device=device if device.startswith("cuda") else "cuda:0", threads=threads
        )
    return Place(
        provider=provider, device="cpu" if provider is RuntimeProvider.CPU else device, threads=threads
    )
