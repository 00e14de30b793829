"""Keeping a service process alive, on its port."""

from __future__ import annotations

import asyncio

import pytest

from runtime.lifecycle.frontend import Frontend, address
from runtime.runner.control import Message
from tests.support.children import FakeChild
from tests.support.clock import FakeClock
from tests.support.virtual_loop import run, until

SETTINGS: Message = {"host": "127.0.0.1", "log_level": "INFO"}


class Started:
    """A frontend that serves on port 8001."""

    def __init__(self, children: list[FakeChild]) -> None:
        self.children = children
        self.introductions = 0
        self.frontend = Frontend("service-0", SETTINGS, self._introduce)
        self.frontend.start()

    def _introduce(self, frontend: Frontend) -> None:
        self.introductions += 1
        frontend.send({"type": "model", "tag": "m:1"})

    async def reply(self, kind: str, **fields: object) -> None:
        """Answer the question of this type, once it has been asked."""
        child = self.children[-1]
        await until(lambda: child.of_type(kind))
        child.says({"type": "reply", "number": child.of_type(kind)[-1]["number"], **fields})

    async def listen(self) -> None:
        listening = asyncio.ensure_future(self.frontend.listen(0))
        await self.reply("listen", port=8001)
        assert await listening == 8001


@pytest.fixture
def started(children: list[FakeChild], clock: FakeClock) -> Started:
    return Started(children)


def test_it_is_configured_before_it_is_told_what_to_serve(started: Started) -> None:
    heard = started.children[0].heard
    assert heard == [{"type": "configure", "name": "service-0", **SETTINGS}, {"type": "model", "tag": "m:1"}]


def test_an_address_that_cannot_be_bound_is_an_os_error(started: Started) -> None:
    async def main() -> None:
        listening = asyncio.ensure_future(started.frontend.listen(1))
        await started.reply("listen", error="address in use")
        with pytest.raises(OSError, match="address in use"):
            await listening

    run(main())


def test_a_process_that_ends_before_it_listens_is_an_os_error(started: Started) -> None:
    async def main() -> None:
        listening = asyncio.ensure_future(started.frontend.listen(0))
        await asyncio.sleep(0)
        started.children[0].ends(1)
        with pytest.raises(OSError, match="ended"):
            await listening
        with pytest.raises(OSError, match="ended"):
            await started.frontend.listen(0)
        await asyncio.sleep(100)
        assert len(started.children) == 1

    run(main())


def test_a_process_that_ends_is_started_again_on_its_port(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        started.children[0].ends(-9)
        await asyncio.sleep(1)
        assert started.frontend.restarts == 1
        assert started.introductions == 2
        (listen,) = started.children[1].of_type("listen")
        assert listen["address"] == "127.0.0.1:8001"
        await started.reply("listen", port=8001)
        assert not started.children[1].killed

    run(main())


def test_a_restarted_process_that_cannot_listen_is_replaced(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        started.children[0].ends(-9)
        await asyncio.sleep(1)
        await started.reply("listen", error="address in use")
        await until(lambda: started.children[1].killed)
        started.children[1].ends(-9)
        await asyncio.sleep(1)
        await started.reply("listen", port=8001)
        assert len(started.children) == 3
        assert started.frontend.restarts == 2

    run(main())


def test_an_ipv6_host_is_written_in_brackets() -> None:
    assert address("::1", 8001) == "[::1]:8001"
    assert address("localhost", 8001) == "localhost:8001"


def test_questions_to_a_process_that_ends_have_an_empty_answer(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        asked = asyncio.ensure_future(started.frontend.ask({"type": "statistics"}))
        await asyncio.sleep(0)
        started.children[0].ends(-9)
        started.frontend.send({"type": "drain"})
        assert await started.frontend.ask({"type": "statistics"}) == {}
        assert await asked == {}

    run(main())


def test_stopping_waits_for_the_calls_and_then_for_the_end(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        stopping = asyncio.ensure_future(started.frontend.stop(7.0))
        await started.reply("stop")
        assert started.children[0].of_type("stop")[0]["grace_s"] == 7.0
        await until(lambda: started.children[0].closed)
        assert not stopping.done()
        started.children[0].ends(0)
        await stopping
        await asyncio.sleep(100)
        assert len(started.children) == 1
        await started.frontend.stop(1.0)

    run(main())


def test_a_process_that_does_not_end_in_time_is_killed(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        stopping = asyncio.ensure_future(started.frontend.stop(3.0))
        await until(lambda: started.children[0].killed)
        started.children[0].ends(-9)
        await stopping
        assert asyncio.get_running_loop().time() >= 1003.0

    run(main())


def test_stopping_while_a_restart_is_due_cancels_it(started: Started) -> None:
    async def main() -> None:
        await started.listen()
        started.children[0].ends(-9)
        await started.frontend.stop(1.0)
        await asyncio.sleep(100)
        assert len(started.children) == 1

    run(main())
