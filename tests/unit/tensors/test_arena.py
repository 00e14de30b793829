"""Shared memory and its bookkeeping."""

from __future__ import annotations

import os

import pytest

from runtime.tensors import arena
from runtime.tensors.arena import ALIGNMENT, Allocator, Arena


def test_two_mappings_see_the_same_bytes() -> None:
    descriptor = arena.create(4096)
    ours, theirs = Arena(os.dup(descriptor)), Arena(descriptor)
    ours.view[10:15] = b"hello"
    assert bytes(theirs.view[10:15]) == b"hello"
    assert ours.size == theirs.size == 4096
    ours.close()
    theirs.close()


def test_nobody_can_shrink_an_arena_under_anothers_feet() -> None:
    descriptor = arena.create(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 10)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1 << 20)
    os.close(descriptor)


def test_the_arena_owns_its_descriptor() -> None:
    descriptor = arena.create(4096)
    mapped = Arena(descriptor)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    mapped.close()


def test_closing_spares_whoever_still_holds_a_view() -> None:
    mapped = Arena(arena.create(4096))
    mapped.view[:5] = b"hello"
    held = mapped.view[:5]
    mapped.close()
    assert bytes(held) == b"hello"
    held.release()


def test_closing_twice_is_harmless() -> None:
    mapped = Arena(arena.create(4096))
    mapped.close()
    mapped.close()


def test_the_lowest_gap_that_fits_is_used_again() -> None:
    allocator = Allocator(10 * ALIGNMENT)
    offsets = [allocator.allocate(ALIGNMENT) for _ in range(4)]
    assert offsets == [0, 64, 128, 192]
    allocator.free(64)
    assert allocator.allocate(2 * ALIGNMENT) == 256
    assert allocator.allocate(1) == 64


def test_what_does_not_fit_is_none_until_something_is_freed() -> None:
    allocator = Allocator(2 * ALIGNMENT)
    assert allocator.allocate(2 * ALIGNMENT + 1) is None
    assert allocator.allocate(ALIGNMENT + 1) == 0
    assert allocator.allocate(1) is None
    allocator.free(0)
    assert allocator.used_bytes == 0
    assert allocator.allocate(1) == 0


def test_empty_payloads_have_places_of_their_own() -> None:
    allocator = Allocator(2 * ALIGNMENT)
    assert allocator.allocate(0) == 0
    assert allocator.allocate(0) == 64


def test_freeing_what_is_not_allocated_is_an_error() -> None:
    allocator = Allocator(1024)
    allocator.allocate(1)
    with pytest.raises(KeyError):
        allocator.free(64)
