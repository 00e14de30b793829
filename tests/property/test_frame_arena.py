"""The arena's allocator against a plain model."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.tensors.arena import ALIGNMENT, Allocator

OPERATIONS = st.lists(st.one_of(st.integers(0, 1000), st.just("free")), max_size=60)


@settings(deadline=None, max_examples=150)
@given(OPERATIONS, st.randoms(use_true_random=False), st.integers(1, 6000))
def test_live_extents_are_aligned_and_never_overlap(
    operations: list[object], random: object, size: int
) -> None:
    allocator = Allocator(size)
    live: dict[int, int] = {}
    for operation in operations:
        if operation == "free":
            if live:
                offset = random.choice(sorted(live))  # type: ignore[attr-defined]
                allocator.free(offset)
                del live[offset]
            continue
        assert isinstance(operation, int)
        rounded = max(-(-operation // ALIGNMENT) * ALIGNMENT, ALIGNMENT)
        found = allocator.allocate(operation)
        gaps = _gaps(live, size)
        if found is None:
            assert all(end - start < rounded for start, end in gaps)
            continue
        assert found == min(start for start, end in gaps if end - start >= rounded)
        assert found % ALIGNMENT == 0
        assert found + rounded <= size
        live[found] = rounded
        assert allocator.used_bytes == sum(live.values())
    for offset in live:
        allocator.free(offset)
    assert allocator.used_bytes == 0


def _gaps(live: dict[int, int], size: int) -> list[tuple[int, int]]:
    gaps = []
    at = 0
    for offset in sorted(live):
        gaps.append((at, offset))
        at = offset + live[offset]
    return [*gaps, (at, size)]
