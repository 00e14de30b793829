"""What happens when service processes or the supervisor are killed, or a worker is stopped."""

from __future__ import annotations

import os
import signal

import psutil

from store import ModelStore
from tests.support import rpc
from tests.support.rpc import Caller
from tests.support.server import Server, eventually, serving

NUMBERS = rpc.tagged("tags", [1, 2, 3])


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on a port."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


def assert_serves(server: Server, connections: int = 10) -> None:
    """Fresh connections are served, every one; one that a dying process had accepted is made again."""
    for _ in range(connections):
        with Caller(server.target, patient=True) as caller:
            assert caller.infer(NUMBERS).outputs["tags"].tolist() == [1, 2, 3]


def test_one_of_two_services_dies_and_the_other_serves_until_it_is_back_on_the_port(zoo: ModelStore) -> None:
    with serving(zoo, "tags", server={"services": 2}) as server:
        workers = server.workers()
        victim, other = server.services()
        assert listens(victim, server.grpc)
        assert listens(other, server.grpc)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not listens(victim, server.grpc), "its socket is closed")
        assert_serves(server)
        eventually(lambda: len(server.services()) == 2, "there are two again")
        (new,) = set(server.services()) - {other}
        eventually(lambda: listens(new, server.grpc), "the new one listens on the same port")
        assert_serves(server)
        os.kill(other, signal.SIGKILL)
        eventually(lambda: not listens(other, server.grpc), "its socket is closed")
        assert_serves(server)
        assert server.workers() == workers


def test_the_only_service_comes_back_on_the_same_port_and_clients_reconnect(zoo: ModelStore) -> None:
    with serving(zoo, "tags") as server, Caller(server.target) as caller:
        workers = server.workers()
        assert caller.infer(NUMBERS).code == "OK"
        (victim,) = server.services()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: any(listens(pid, server.grpc) for pid in server.services()), "it is back")
        eventually(lambda: caller.infer(NUMBERS).code == "OK", "the client is connected again")
        assert server.workers() == workers


def test_everything_ends_with_the_supervisor(zoo: ModelStore) -> None:
    with serving(zoo, "tags", server={"services": 2}, model={"instances": 2}) as server:
        assert_serves(server, 2)
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        server.assert_gone()


def test_a_stopped_worker_holds_up_nobody_elses_calls(zoo: ModelStore) -> None:
    with serving(zoo, "tags", "mortal") as server, Caller(server.target) as caller:
        (stopped,) = server.workers("mortal")
        os.kill(stopped, signal.SIGSTOP)
        held = [caller.start(rpc.tagged("mortal", [n])) for n in range(200)]
        answers = rpc.all_at_once(server.target, [NUMBERS] * 300)
        assert {answer.code for answer in answers} == {"OK"}
        late = caller.infer(rpc.tagged("mortal", [1]), timeout=0.05)
        assert late.code == "DEADLINE_EXCEEDED"
        assert not any(call.is_over for call in held)
        os.kill(stopped, signal.SIGCONT)
        assert [int(call.answer().outputs["tags"][0]) for call in held] == list(range(200))
        assert server.workers("mortal") == [stopped]
