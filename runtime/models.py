"""Saved models, as functions over the default store: ``runtime.models.get("iris_clf:latest")``.

The default store is ``models`` below ``$RUNTIME_HOME``, or below ``~/.runtime``;
it is looked up at each call. For another one use ``store.ModelStore``.
"""

from __future__ import annotations

import builtins

from store import Model, ModelStore, Tag

__all__ = ["delete", "get", "list"]


def get(tag: str | Tag) -> Model:
    """Return a saved model; a name alone, or ``name:latest``, means the newest version.

    Raises:
        InvalidTag: the text is no tag.
        ModelMissing: there is no such model (NOT_FOUND).
        CorruptArtifact: its manifest cannot be read (DATA_LOSS).
    """
    return ModelStore.default().get(tag)


def list(name: str | None = None) -> builtins.list[Model]:
    """Return the saved models, newest first; with a name only its versions.

    Raises:
        InvalidTag: the name breaks the naming rules.
    """
    return ModelStore.default().list(name)


def delete(tag: str | Tag) -> Tag:
    """Delete one version, or the newest one, and return its tag.

    Raises:
        InvalidTag: the text is no tag.
        ModelMissing: there is no such model (NOT_FOUND).
    """
    return ModelStore.default().delete(tag)
