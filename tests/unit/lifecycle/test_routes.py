"""The table of routes."""

from __future__ import annotations

import pytest

from runtime.errors import InvalidInput, MethodNotFound, ModelNotFound, VersionNotFound
from runtime.lifecycle.routes import Route, Routes
from runtime.tensors import heads
from store import Signature
from tests.support.serving import echo, serve


def methods(*names: str) -> Route:
    route, _ = serve(Routes(), methods=dict.fromkeys(names, echo))
    return route


def test_the_latest_version_is_the_one_made_last() -> None:
    routes = Routes()
    made = [
        serve(routes, version=version, order=order)[0] for version, order in (("b", 2), ("a", 3), ("c", 1))
    ]
    assert routes.resolve("m") is routes.resolve("m", "latest") is made[1]
    assert routes.resolve("m", "c") is made[2]
    assert routes.versions("m") == ["c", "b", "a"]
    assert set(routes) == set(made)
    assert routes.versions("z") == []


def test_every_change_raises_the_generation_and_leaves_no_rest() -> None:
    routes = Routes()
    route, _ = serve(routes)
    other, _ = serve(routes, version="2", order=1)
    assert routes.generation == 2
    routes.remove(other)
    routes.remove(other)
    assert routes.resolve("m") is route
    routes.remove(route)
    assert list(routes) == []
    with pytest.raises(ModelNotFound, match="served: none"):
        routes.resolve("m")


def test_whoever_iterates_sees_one_table() -> None:
    routes = Routes()
    route, _ = serve(routes)
    seen = iter(routes)
    routes.remove(route)
    assert list(seen) == [route]


def test_unknown_names_are_answered_with_known_ones() -> None:
    routes = Routes()
    serve(routes, name="iris")
    with pytest.raises(ModelNotFound, match="did you mean 'iris'") as caught:
        routes.resolve("irsi")
    assert caught.value.field == "model_name"
    with pytest.raises(VersionNotFound, match="served: 1") as missing:
        routes.resolve("iris", "2")
    assert missing.value.field == "model_version"
    with pytest.raises(InvalidInput):
        routes.resolve("")


@pytest.mark.parametrize(
    ("names", "chosen"), [(["predict", "__call__"], "__call__"), (["predict", "x"], "predict"), (["x"], "x")]
)
def test_a_method_need_not_be_named_where_one_is_meant(names: list[str], chosen: str) -> None:
    assert methods(*names).method(None) == chosen


def test_a_method_that_is_not_there_or_not_clear_is_an_error() -> None:
    route = methods("a", "b")
    assert route.method("b") == "b"
    with pytest.raises(InvalidInput, match="one of a, b"):
        route.method(None)
    with pytest.raises(MethodNotFound, match="it has a, b"):
        route.method("")


def test_a_head_has_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS_KEPT", 2)
    route = methods("a")
    first = route.key(b"1", batchable=True, variable=())
    assert route.key(b"1", batchable=True, variable=()) is first
    route.key(b"2", batchable=True, variable=())
    route.key(b"3", batchable=True, variable=())
    assert route.key(b"1", batchable=True, variable=()) is not first


def test_a_route_is_ready_while_it_has_an_instance() -> None:
    route, instance = serve(Routes(), signature=Signature())
    assert route.is_ready
    route.scheduler.detach(instance)
    assert not route.is_ready
