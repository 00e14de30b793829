"""Was a model saved with the libraries that are here?

Asked when it is loaded, so that a server says at its start, not at the first call, what has to be installed.
A difference in a minor version is a warning, and part of the message if loading fails. Another major version
refuses a pickled model, whose bytes are a picture of one version's objects; files of a documented format are
tried.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping

from frameworks.errors import InvalidModel
from store import ModelInfo

_logger = logging.getLogger(__name__)


def check(info: ModelInfo, versions: Mapping[str, str]) -> str:
    """Compare the versions that saved a model with those that are here.

    Args:
        info: the model's record.
        versions: distribution name to version of the libraries that matter for loading.

    Returns:
        What differs, for people; empty when nothing does.

    Raises:
        InvalidModel: it was pickled under another major version; the message says what to install.
    """
    saved, here = dict(info.context.framework_versions), dict(versions)
    if info.pickled:  # pickled code of one Python minor version may not run in another
        saved["python"] = _minor(info.context.python_version)
        here["python"] = _minor(platform.python_version())
    different = {
        library: (version, here[library])
        for library, version in saved.items()
        if version and library in here and here[library] != version
    }
    if not different:
        return ""
    said = ", ".join(f"{library} {old} (here {new})" for library, (old, new) in different.items())
    major = [library for library, pair in different.items() if _major(pair[0]) != _major(pair[1])]
    if info.pickled and major:
        install = " ".join(f"{library}=={different[library][0]}" for library in major if library != "python")
        raise InvalidModel(
            f"{info.tag} was pickled with {said}; a pickle does not carry over to another major version. "
            f"Install {install or 'that Python'} for the server, or save the model again",
            field=major[0],
        )
    _logger.warning("framework_version_differs model=%s saved_with=%s", info.tag, said)
    return f"it was saved with {said}"


def _major(version: str) -> str:
    return version.split(".", 1)[0]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
