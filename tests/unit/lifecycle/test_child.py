"""The control connection to a process, with nobody but the test behind it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from typing import Any

import pytest

from runtime.lifecycle.child import Child
from runtime.runner import control
from tests.support.virtual_loop import run


class FakeProcess:
    """What ``Popen`` returns. :attr:`control` is the child's end of the connection."""

    pid = 4711

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command = command
        self.options = options
        self.control = socket.socket(fileno=os.dup(int(command[-1])))
        self.returncode: int | None = None
        self.killed = False
        self.polls = 0

    def poll(self) -> int | None:
        self.polls += 1
        return self.returncode

    def kill(self) -> None:
        self.killed = True
        self.returncode = -9

    def wait(self) -> None:
        assert self.returncode is not None


class Rig:
    def __init__(self) -> None:
        self.messages: list[control.Message] = []
        self.ends: list[int] = []
        self.changed = asyncio.Event()
        self.child = Child("c", "some.module", {"ANSWER": "42"}, on_message=self._heard, on_end=self._ended)
        self.process: FakeProcess = self.child._process  # type: ignore[assignment]

    def _heard(self, message: control.Message) -> None:
        self.messages.append(message)
        self.changed.set()

    def _ended(self, status: int) -> None:
        self.ends.append(status)
        self.changed.set()

    async def change(self) -> None:
        await self.changed.wait()
        self.changed.clear()


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", FakeProcess)


def test_messages_go_both_ways_and_the_end_is_told_once() -> None:
    async def main() -> None:
        rig = Rig()
        assert rig.child.pid == 4711
        assert rig.process.command[1:3] == ["-m", "some.module"]
        assert rig.process.options["env"]["ANSWER"] == "42"
        rig.child.send({"type": "hello"})
        assert control.receive(rig.process.control) == ({"type": "hello"}, [])
        control.send(rig.process.control, {"type": "ready"})
        await rig.change()
        assert rig.messages == [{"type": "ready"}]
        rig.process.returncode = 3
        rig.process.control.close()
        await rig.change()
        assert rig.ends == [3]
        rig.child.send({"type": "lost"})
        rig.child.close()
        assert not rig.process.killed

    run(main())


def test_closing_is_seen_by_the_child_which_may_still_speak() -> None:
    async def main() -> None:
        rig = Rig()
        rig.child.close()
        assert control.receive(rig.process.control) is None
        control.send(rig.process.control, {"type": "last"})
        await rig.change()
        rig.process.returncode = 0
        rig.process.control.close()
        await rig.change()
        assert (rig.messages, rig.ends) == ([{"type": "last"}], [0])

    run(main())


def test_a_child_that_closes_and_does_not_end_is_killed() -> None:
    async def main() -> None:
        rig = Rig()
        rig.process.control.close()
        await rig.change()
        assert rig.process.killed
        assert rig.process.polls > 10
        assert rig.ends == [-9]

    run(main())


def test_a_message_to_a_child_that_is_ending_is_lost() -> None:
    async def main() -> None:
        rig = Rig()
        rig.process.returncode = 0
        rig.process.control.close()
        rig.child.send({"type": "never"})
        await rig.change()
        assert rig.ends == [0]

    run(main())


def test_a_child_can_be_killed() -> None:
    async def main() -> None:
        rig = Rig()
        rig.child.kill()
        rig.process.control.close()
        await rig.change()
        assert rig.ends == [-9]

    run(main())
