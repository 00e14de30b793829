"""What the operating system says of a process and its children."""

from __future__ import annotations

from pathlib import Path


def family(pid: int) -> dict[int, str]:
    """A process and its direct children, with their command lines."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return {each: Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ") for each in pids}


def cpu_seconds(pid: int) -> float:
    """CPU time of all live threads of a process, user and system, to the nanosecond of the scheduler."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
