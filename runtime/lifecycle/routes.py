"""The table of model versions that a service process can route to.

Changed by the control thread, read by the transport's thread without a lock: every change installs a new
table and raises ``generation``, so that whoever caches what it resolved knows when to forget it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from runtime.batching.scheduler import Scheduler
from runtime.batching.task import BatchKey
from runtime.errors import InvalidInput, MethodNotFound, ModelNotFound, VersionNotFound
from runtime.tensors.heads import HeadTable
from store import Signature, default_method

LATEST: Final = "latest"


@dataclass(slots=True, kw_only=True, eq=False)
class Route:
    """One model version that is served.

    Attributes:
        name, version: identity.
        module: the adapter's name.
        signatures: by method.
        scheduler: where its tasks go.
        order: position among the versions; the highest is ``latest``.
    """

    name: str
    version: str
    module: str
    signatures: Mapping[str, Signature]
    scheduler: Scheduler
    order: int = 0
    keys: HeadTable[BatchKey] = field(default_factory=HeadTable)

    @property
    def is_ready(self) -> bool:
        """Whether an instance can execute now."""
        return self.scheduler.instances > 0

    def method(self, name: str | None) -> str:
        """The method to call: the named one, or else ``__call__``, ``predict`` or the only one there is.

        Raises:
            MethodNotFound: no such method (NOT_FOUND).
            InvalidInput: none was named and several could be meant (INVALID_ARGUMENT).
        """
        methods = self.signatures
        if name is not None:
            if name not in methods:
                raise MethodNotFound(
                    f"model {self.name!r} has no method {name!r}; it has {', '.join(methods)}",
                    field="parameters.method",
                )
            return name
        default = default_method(methods)
        if default is not None:
            return default
        raise InvalidInput(
            f"model {self.name!r} has several methods: set the parameter 'method' to one of "
            f"{', '.join(methods)}",
            field="parameters.method",
        )

    def key(self, head: bytes, *, batchable: bool, variable: tuple[bool, ...]) -> BatchKey:
        """The one batch key of this head; a new one each time where the head is too long to keep."""
        key = self.keys.get(head)
        if key is None:
            key = self.keys.keep(head, BatchKey(head, batchable=batchable, variable=variable))
        return key


class Routes:
    """Names and versions to routes."""

    def __init__(self) -> None:
        self._table: dict[str, dict[str, Route]] = {}
        self.generation = 0

    def __iter__(self) -> Iterator[Route]:
        return iter([route for versions in self._table.values() for route in versions.values()])

    def add(self, route: Route) -> None:
        """Serve a version from now on."""
        table = {name: dict(versions) for name, versions in self._table.items()}
        table.setdefault(route.name, {})[route.version] = route
        self._install(table)

    def remove(self, route: Route) -> None:
        """Stop routing to a version."""
        table = {name: dict(versions) for name, versions in self._table.items()}
        table[route.name].pop(route.version, None)
        if not table[route.name]:
            del table[route.name]
        self._install(table)

    def resolve(self, name: str, version: str = "") -> Route:
        """The route of a name and version; the newest version without one, or for ``latest``.

        Raises:
            InvalidInput: the name is empty (INVALID_ARGUMENT).
            ModelNotFound, VersionNotFound: not served here (NOT_FOUND).
        """
        versions = self._table.get(name)
        if versions is None:
            raise _unknown_model(name, list(self._table))
        if not version or version == LATEST:
            return max(versions.values(), key=lambda route: route.order)
        route = versions.get(version)
        if route is None:
            raise VersionNotFound(
                f"model {name!r} has no version {version!r} here; served: {', '.join(versions)}",
                field="model_version",
            )
        return route

    def versions(self, name: str) -> list[str]:
        """The served versions of a model, oldest first."""
        routes = sorted(self._table.get(name, {}).values(), key=lambda route: route.order)
        return [route.version for route in routes]

    def _install(self, table: dict[str, dict[str, Route]]) -> None:
        self._table = table
        self.generation += 1


def _unknown_model(name: str, known: list[str]) -> Exception:
    if not name:
        return InvalidInput("model_name is empty", field="model_name")
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; served: {', '.join(known) or 'none'}"
    return ModelNotFound(f"no model {name!r} is served here{hint}", field="model_name")
