"""Generator processes that die, a binding that is unusable, and what calls carry: TLS and metadata."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.errors import WorkerLost
from runtime.profiling import engine
from runtime.profiling.engine import run
from runtime.profiling.processes import Fleet, SenderUnusable
from runtime.profiling.records import Load
from runtime.profiling.sender import trial
from runtime.profiling.target import INFER, Target
from runtime.profiling.timeline import Progress
from runtime.transport.completion_queue import Server
from runtime.transport.credentials import TlsFiles, server_credentials
from runtime.transport.options import TransportOptions
from tests.profiling.synthetic import Synthetic, deck
from tests.transport.certificates import make_certificate

WAIT_S = 10
SHORT = Load(mode="closed", concurrency=2, warm_up_s=0, duration_s=0.3)


def test_generator_that_dies_is_reported(server: Synthetic) -> None:
    def kill(progress: Progress) -> None:
        for child in psutil.Process().children():
            if "runtime.profiling.generator" in child.cmdline():
                child.kill()

    load = Load(mode="closed", duration_s=60)
    with pytest.raises(WorkerLost, match="generator process 0 ended with -9"):
        run(server.target, load, deck("echo"), progress=kill)


def test_unusable_binding_gives_way_to_the_public_one(
    server: Synthetic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wait_ready = Fleet.wait_ready
    refusals = [SenderUnusable("no such name")]

    def refuse_once(fleet: Fleet) -> None:
        if refusals:
            raise refusals.pop()
        wait_ready(fleet)

    monkeypatch.setattr(engine.Fleet, "wait_ready", refuse_once)
    assert run(server.target, SHORT, deck("echo")).total.ok > 0
    assert [record.msg for record in caplog.records] == ["profiler_sender_fallback"]


def test_trial_succeeds_here() -> None:
    trial()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Target, queue.SimpleQueue[Any]]]:
    """A TLS server that notes the metadata of its calls."""
    made = make_certificate()
    (tmp_path / "certificate.pem").write_bytes(made.certificate)
    (tmp_path / "key.pem").write_bytes(made.key)
    files = TlsFiles(certificate_file=tmp_path / "certificate.pem", key_file=tmp_path / "key.pem")
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server = Server(TransportOptions())
    server.add_unary(INFER, lambda call: (seen.put(tuple(call.metadata)), call.respond(b"")))
    port = server.add_port("127.0.0.1:0", server_credentials(files))
    server.start()
    yield (
        Target(
            url=f"127.0.0.1:{port}",
            ca_file=str(files.certificate_file),
            authority="localhost",
            metadata=(("x-tenant", "a"),),
        ),
        seen,
    )
    assert server.stop(0).wait(WAIT_S)


@pytest.mark.parametrize("sender", ["core", "public"])
def test_tls_and_metadata_reach_the_server(
    secure: tuple[Target, queue.SimpleQueue[Any]], sender: str
) -> None:
    target, seen = secure
    made = run(target, SHORT, deck("echo"), sender=sender)
    assert made.total.ok == made.total.requests > 0
    assert ("x-tenant", "a") in seen.get(timeout=WAIT_S)
