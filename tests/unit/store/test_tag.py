from __future__ import annotations

import threading

import pytest

from store import InvalidTag, Tag
from store.tag import VersionSource


def test_a_bare_name_means_the_latest_version() -> None:
    assert Tag.parse("iris") == Tag("iris", "latest") == Tag.parse("iris:latest")
    assert Tag.parse("iris").is_latest


def test_name_and_version_are_told_apart() -> None:
    tag = Tag.parse("iris_clf:2uo5fkgxj27exuqj")
    assert (tag.name, tag.version, tag.is_latest) == ("iris_clf", "2uo5fkgxj27exuqj", False)
    assert str(tag) == "iris_clf:2uo5fkgxj27exuqj"
    assert Tag.parse(tag) is tag


@pytest.mark.parametrize("name", ["a", "0", "a-b_c.d", "a..b", "x" * 63])
def test_allowed_names_pass(name: str) -> None:
    assert Tag(name, name).name == name


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":v", "-a", "a-", ".a", "a.", "a/b", "..", "a b", "a:b:c", "a\n", "é", "a:../b", "ß"],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidTag):
        Tag.parse(text)


def test_upper_case_is_refused_with_the_spelling_to_use() -> None:
    with pytest.raises(InvalidTag, match="'iris_clf'") as caught:
        Tag.parse("Iris_CLF")
    assert caught.value.field == "name"
    with pytest.raises(InvalidTag, match="'v1'") as caught:
        Tag.parse("iris:V1")
    assert caught.value.field == "version"


def test_too_long_names_are_refused_with_the_bound() -> None:
    with pytest.raises(InvalidTag, match="63"):
        Tag("x" * 64)


def test_new_versions_are_valid_unique_and_in_order() -> None:
    versions = [Tag.new_version() for _ in range(2000)]
    assert versions == sorted(set(versions))
    assert all(len(version) == 16 and Tag("m", version).version == version for version in versions)


def test_order_survives_a_clock_that_steps_back() -> None:
    ticks = iter([5_000_000, 4_000_000, 4_000_000, 9_000_000])
    source = VersionSource(lambda: next(ticks))
    versions = [source.new() for _ in range(4)]
    assert versions == sorted(set(versions))


def test_versions_of_later_times_sort_after_earlier_ones() -> None:
    seconds = [1, 60, 86_400, 1_800_000_000, 4_000_000_000]
    ticks = iter([second * 10**9 for second in seconds])
    versions = [VersionSource(lambda: next(ticks)).new() for _ in seconds]
    assert versions == sorted(versions)


def test_threads_never_get_the_same_version() -> None:
    versions: list[str] = []
    threads = [
        threading.Thread(target=lambda: versions.extend(Tag.new_version() for _ in range(200)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(set(versions)) == 1600
