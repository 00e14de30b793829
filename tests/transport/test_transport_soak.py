"""Many calls leave nothing behind: memory, descriptors, calls."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys

import psutil
import pytest

from tests.transport.rig import Child

SERVER = """
import sys
from runtime.transport.environment import prepare_environment
prepare_environment()
from runtime.transport.options import TransportOptions
from runtime.transport.selfcheck import choose
server = choose(sys.argv[1])(TransportOptions())
server.add_unary("/t.T/Echo", lambda call: call.respond(call.request))
server.after_drain.append(lambda: None)
print(server.add_port("127.0.0.1:0"), flush=True)
server.start()
for line in sys.stdin:
    print(server.active, flush=True)
"""
CLIENT = """
import asyncio, sys
import grpc.aio

async def main(target, count):
    async with grpc.aio.insecure_channel(target) as channel:
        echo = channel.unary_unary("/t.T/Echo")

        async def work():
            for _ in range(count // 64):
                await echo(bytes(300))

        await asyncio.gather(*(work() for _ in range(64)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
MIB = 2**20


def load(port, count, folder):
    if shutil.which("h2load") is None:
        subprocess.run([sys.executable, "-c", CLIENT, f"127.0.0.1:{port}", str(count)], check=True)
        return
    body = folder / "body"
    body.write_bytes(b"\0" + struct.pack(">I", 300) + bytes(300))
    headers = [part for name in ("content-type: application/grpc", "te: trailers") for part in ("-H", name)]
    url = f"http://127.0.0.1:{port}/t.T/Echo"
    done = subprocess.run(
        ["h2load", "-n", str(count), "-c", "4", "-m", "16", "-d", str(body), *headers, url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{count} succeeded" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "count"), [("completion_queue", 200_000), ("aio", 20_000)])
def test_soak_keeps_memory_and_descriptors_flat(tmp_path, name, count):
    with Child(SERVER, name) as server:
        port = int(server.read())
        process = psutil.Process(server.pid)
        load(port, count // 5, tmp_path)
        before = process.memory_info().rss, process.num_fds(), process.num_threads()
        load(port, count, tmp_path)
        after = process.memory_info().rss, process.num_fds(), process.num_threads()
        for _ in range(200):  # the last connections take a moment to close
            if server.ask("?") == "0" and process.num_fds() <= before[1]:
                break
        assert server.ask("?") == "0"
        assert process.num_fds() <= before[1] + 2
        assert after[2] <= before[2] + 2
        assert after[0] - before[0] < 8 * MIB
