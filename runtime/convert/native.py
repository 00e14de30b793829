"""An artifact as its framework's own object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from frameworks import base
from frameworks.convert.formats import Format
from frameworks.errors import FrameworkError, InvalidModel


def load(form: Format, path: Path) -> Any:
    """Return what the framework makes of an artifact, on the CPU.

    Returns:
        TorchScript: ``ScriptModule``. Exported programs, also Torch-TensorRT's: ``ExportedProgram``.
        AOTInductor: a callable. ONNX: ``ModelProto``. SavedModels: the loaded object, with ``.signatures``.
        TensorRT: the path.

    Raises:
        MissingFramework: the framework is not installed.
        InvalidModel: it cannot read the artifact.
    """
    loaders: dict[Format, Callable[[Path], Any]] = {
        Format.TORCHSCRIPT: _torchscript,
        Format.TORCH_EXPORT: _exported,
        Format.TORCH_AOTI: _inductor,
        Format.TORCH_TRT: _torch_tensorrt,
        Format.TF_SAVEDMODEL: _saved_model,
        Format.TF_TRT: _saved_model,
        Format.ONNX: _onnx,
        Format.TENSORRT: lambda found: found,
    }
    try:
        return loaders[form](path)
    except ModuleNotFoundError as error:
        extra = "tensorflow" if form in (Format.TF_SAVEDMODEL, Format.TF_TRT) else "convert"
        raise base.missing(str(error.name), extra) from error
    except FrameworkError:
        raise
    except Exception as error:
        raise InvalidModel(f"{path} cannot be loaded: {error}", field="format") from error


def _torchscript(path: Path) -> Any:
    import torch

    from frameworks.pt.quiet import quiet

    with quiet():  # the file exists already
        read: Any = torch.jit.load  # untyped
        return read(str(path), map_location="cpu").eval()


def _exported(path: Path) -> Any:
    import torch

    return torch.export.load(path)


def _torch_tensorrt(path: Path) -> Any:
    import torch_tensorrt  # noqa: F401 -- registers the engines' operators

    return _exported(path)


def _inductor(path: Path) -> Any:
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def _saved_model(path: Path) -> Any:
    from frameworks.tf.library import tf

    return tf.saved_model.load(str(path))


def _onnx(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))
