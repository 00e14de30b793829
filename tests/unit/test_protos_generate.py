from __future__ import annotations

from pathlib import Path

from protos import generate


def test_equal_files_show_no_differences() -> None:
    assert generate.differences({"a_pb2.py": b"x"}, {"a_pb2.py": b"x"}) == []


def test_a_changed_file_is_named_with_an_excerpt() -> None:
    lines = generate.differences({"a_pb2.py": b"old\n"}, {"a_pb2.py": b"new\n"})
    assert lines[0] == "a_pb2.py: differs from what the compiler makes"
    assert "-old" in lines
    assert "+new" in lines


def test_the_excerpt_of_a_large_difference_is_short() -> None:
    lines = generate.differences({"a_pb2.py": b"old\n" * 500}, {"a_pb2.py": b"new\n" * 500})
    assert len(lines) <= generate.SUMMARY_LINES + 2
    assert lines[-1].startswith("... ")


def test_missing_and_left_over_files_are_named() -> None:
    assert generate.differences({"old_pb2.py": b""}, {"new_pb2.py": b""}) == [
        "new_pb2.py: missing",
        "old_pb2.py: no .proto file makes it",
    ]


def test_only_generated_files_count_as_committed(tmp_path: Path) -> None:
    for name in ("a_pb2.py", "a_pb2.pyi", "a.proto", "service.py"):
        (tmp_path / name).touch()
    assert set(generate.committed(tmp_path)) == {"a_pb2.py", "a_pb2.pyi"}


def test_writing_makes_the_folder_what_was_generated(tmp_path: Path) -> None:
    (tmp_path / "gone_pb2.py").write_text("old")
    want = {"a_pb2.py": b"new", "a_pb2.pyi": b"stub"}
    generate.write(tmp_path, generate.committed(tmp_path), want)
    assert generate.committed(tmp_path) == want
