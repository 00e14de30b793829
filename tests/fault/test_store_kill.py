"""Many processes share one store while they are killed at random: no reader ever sees half a model."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from store import Model, ModelInfo, ModelStore, Tag, publish

PROCESSES = 16
KILLS = 60
REPOSITORY = Path(__file__).resolve().parents[2]

WORKER = textwrap.dedent(
    """
    import logging, random, sys
    from pathlib import Path
    from store import ModelInfo, ModelMissing, ModelStore, Tag, TagExists

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    models, draw = ModelStore(sys.argv[1]), random.Random(int(sys.argv[2]))
    NAMES = ["one", "two", "three"]

    def save():
        # Few versions, so that processes collide, and versions that come back after deletion.
        version = draw.choice(["v1", "v2", "v3", Tag.new_version()])
        try:
            with models.create(ModelInfo(name=draw.choice(NAMES), version=version, module="python")) as draft:
                (draft.path / "parts").mkdir()
                for part in range(draw.randrange(1, 5)):
                    content = draw.randbytes(draw.choice([0, 100, 40_000]))
                    (draft.path / "parts" / str(part)).write_bytes(content)
        except TagExists:
            pass

    def read():
        found = models.list(draw.choice([*NAMES, None]))
        if draw.random() < 0.3:
            try:
                found.append(models.get(draw.choice(NAMES)))
            except ModelMissing:
                pass
        for model in found:
            try:
                model.verify()
                assert model.size_bytes > 0
            except ModelMissing:
                pass

    def delete():
        found = models.list(draw.choice(NAMES))
        if len(found) > 2:
            try:
                models.delete(draw.choice(found).tag)
            except ModelMissing:
                pass

    sys.stdin.read(1)  # all start together
    while True:
        draw.choice([save, save, read, delete, delete])()
        sys.stdout.write(".")
        sys.stdout.flush()
    """
)


class Crowd:
    """The workers; a killed one is replaced."""

    def __init__(self, root: Path, errors: Path) -> None:
        self._root = root
        self._errors = errors.open("ab")
        self._seed = 0
        self.alive: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._seed += 1
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self._root), str(self._seed)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert worker.stdin is not None
        worker.stdin.write(b"g")
        worker.stdin.close()
        self.alive.append(worker)

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        self.alive.remove(worker)
        assert worker.stdout is not None
        worker.send_signal(signal.SIGKILL)
        worker.stdout.close()
        assert worker.wait(timeout=10) == -signal.SIGKILL, "a worker ended by itself"

    def wait_for_work(self, worker: subprocess.Popen[bytes], operations: int) -> None:
        assert worker.stdout is not None
        done = worker.stdout.read(operations)
        assert len(done) == operations, "a worker ended by itself"

    def close(self) -> None:
        for worker in list(self.alive):
            worker.kill()
            worker.wait(timeout=10)
            assert worker.stdout is not None
            worker.stdout.close()
        self._errors.close()


def test_random_kills_never_show_a_broken_model_and_leftovers_are_swept(tmp_path: Path) -> None:
    draw, models = random.Random(7), ModelStore(tmp_path / "models")
    crowd = Crowd(models.root, tmp_path / "errors")
    try:
        for _ in range(PROCESSES):
            crowd.start()
        for kill in range(KILLS):
            victim = draw.choice(crowd.alive)
            # Its last byte says that an operation ended; the next ones are under way when the signal comes.
            crowd.wait_for_work(victim, 1)
            crowd.kill(victim)
            if kill < KILLS - PROCESSES:
                crowd.start()
    finally:
        crowd.close()
    assert (tmp_path / "errors").read_text() == ""
    found = models.list()
    assert found
    for model in found:
        model.verify()
    _save(models, "last", Tag.new_version())
    assert [path.name for path in (models.root / publish.WORK_FOLDER).iterdir()] == []


@pytest.mark.parametrize("operation", ["save", "delete"])
def test_a_kill_at_each_step_leaves_all_or_nothing(tmp_path: Path, operation: str) -> None:
    """Trace an operation, then repeat it as often as it has visible steps, killed before each of them."""
    steps = _steps(operation, tmp_path / "whole", stop_at=None)
    assert "os.rename" in steps
    for step in range(len(steps)):
        models = ModelStore(tmp_path / str(step))
        _steps(operation, models.root, stop_at=step)
        for path in models.root.glob("[!.]*/*"):
            Model.open(path).verify()
        _save(models, "last", Tag.new_version())
        assert [path.name for path in (models.root / publish.WORK_FOLDER).iterdir()] == []


STEPS = textwrap.dedent(
    """
    import os, signal, sys
    from store import ModelInfo, ModelStore

    stop_at, seen = int(sys.argv[2]), 0
    WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir")

    def hook(event, arguments):
        global seen
        ours = any(sys.argv[1] in str(argument) for argument in arguments)
        if event == "fcntl.flock" or (event in WATCHED and ours):
            if seen == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            os.write(1, event.encode() + b" ")

    models = ModelStore(sys.argv[1])
    sys.addaudithook(hook)
    if sys.argv[3] == "delete":
        models.delete("one:v1")
    else:
        with models.create(ModelInfo(name="one", version="v1", module="python")) as draft:
            (draft.path / "part").write_bytes(b"content")
    """
)


def _steps(operation: str, root: Path, stop_at: int | None) -> list[str]:
    """Run the operation in a process that kills itself before a step; return the steps that it took."""
    if operation == "delete":
        _save(ModelStore(root), "one", "v1")
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(root), str(-1 if stop_at is None else stop_at), operation],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    assert done.returncode == (0 if stop_at is None else -signal.SIGKILL)
    return os.fsdecode(done.stdout).split()


def _save(models: ModelStore, name: str, version: str) -> None:
    with models.create(ModelInfo(name=name, version=version, module="python")) as draft:
        (draft.path / "part").write_bytes(b"content")
