"""``runtime serve`` as a real process on free ports, and proof that nothing is left of it.

The server gets a folder of its own for everything that it might write (working directory, ``TMPDIR``,
``RUNTIME_HOME``), which must be empty in the end.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from store import ModelStore

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 30.0
SERVE = ("-m", "runtime.cli.main", "serve")
READY = re.compile(r"ready grpc=127\.0\.0\.1:(\d+) http=127\.0\.0\.1:(\d+) models=(\d+)\n")
SERVICE, WORKER = "runtime.service.process", "runtime.runner.worker"

Sections = Mapping[str, Mapping[str, object]]


def eventually(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Wait for what nothing announces, such as the end of a process that is not our child."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        pause.wait(0.01)
    return value


class Server:
    """A running (or starting) server.

    Args:
        store: what it serves.
        targets: tags; none for all.
        sections: the configuration by section; ports are free ones and the drain delay short unless given.

    Attributes:
        grpc, http: ports, once it is ready.
        took_s: seconds until it was ready.
    """

    def __init__(
        self, store: ModelStore, targets: Sequence[str] = (), sections: Sections | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="serve-")
        self.home = Path(self._folder.name, "home")
        self.home.mkdir()
        self.log_path = Path(self._folder.name, "log")
        config = Path(self._folder.name, "runtime.toml")
        config.write_text(_toml(store, sections or {}))
        self.grpc = self.http = 0
        self.took_s = 0.0
        self._seen: dict[int, float] = {}
        self._arenas: set[str] = set()
        self._shared: set[str] = set()
        self._started = time.monotonic()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *SERVE, *targets, "--config", str(config)],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, cwd=self.home,
                env=_environment(self.home),
            )  # fmt: skip

    # -- what it says ---------------------------------------------------------------------------

    def wait_ready(self, seconds: float = WAIT_S) -> Server:
        """Wait for the ready line, which must be all that there is on stdout."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(seconds), f"not ready in time\n{self.log}"
        line = self.process.stdout.readline()
        found = READY.fullmatch(line)
        assert found, f"no ready line but {line!r}\n{self.log}"
        self.grpc, self.http = int(found[1]), int(found[2])
        self.took_s = time.monotonic() - self._started
        return self

    @property
    def target(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self.grpc}"

    @property
    def log(self) -> str:
        """All that was logged until now."""
        return self.log_path.read_text()

    def get(self, path: str) -> str:
        """The body of a page of the HTTP port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=WAIT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def instances(self, name: str = "") -> list[dict[str, Any]]:
        """What ``/models`` says of the instances of a model, or of all."""
        models = json.loads(self.get("/models"))
        return [one for model in models if model["tag"].startswith(name) for one in model["instances"]]

    def workers(self, name: str = "") -> list[int]:
        """Process ids of the workers of a model that can execute now, or of all models."""
        return [one["pid"] for one in self.instances(name) if one["state"] == "available"]

    def counted(self, metric: str, name: str = "") -> float:
        """The sum of a metric over all its lines that speak of a model."""
        wanted = f'model="{name}"' if name else ""
        lines = [line for line in self.get("/metrics").splitlines() if re.match(rf"{metric}(\{{| )", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if wanted in line)

    # -- its processes --------------------------------------------------------------------------

    def services(self) -> list[int]:
        """Process ids of the service processes."""
        return self.processes(SERVICE)

    def processes(self, module: str) -> list[int]:
        """Process ids of the children that run a module, whatever state they are in."""
        return [pid for pid, words in self._children() if module in words]

    def pids(self) -> set[int]:
        """Every process of the server, the supervisor included."""
        return {self.process.pid, *(pid for pid, _ in self._children())}

    def _children(self) -> list[tuple[int, list[str]]]:
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found.append((child.pid, child.cmdline()))
                self._seen[child.pid] = child.create_time()
            except psutil.NoSuchProcess:
                continue
        return found

    # -- its end --------------------------------------------------------------------------------

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the supervisor, after a look at all there is."""
        self.look()
        self.process.send_signal(number)

    def look(self) -> None:
        """Remember what must be gone in the end: processes and arenas."""
        self._children()
        for pid in self._seen:
            self._arenas |= _arenas_of(pid)
            self._shared |= _shared_memory_of(pid)

    def wait(self, seconds: float = WAIT_S) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(seconds)
        if self.process.stdout is not None:
            assert self.process.stdout.read() == "", "more than the ready line on stdout"
            self.process.stdout.close()
        return status

    def stop(self) -> None:
        """End it in order; it must end well and leave nothing."""
        self.signal()
        assert self.wait() == 0, self.log
        self.assert_gone()

    def assert_gone(self) -> None:
        """No process, socket, shared memory or file is left of it."""
        eventually(lambda: not self._alive(), f"leftover processes {self._alive()}")
        for port in filter(None, (self.grpc, self.http)):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)), f"somebody still listens on {port}"
        left = {arena for pid in psutil.pids() for arena in _arenas_of(pid)} & self._arenas
        assert not left, f"leftover arenas {left}"
        left = {path for path in self._shared if Path(path).exists()}
        assert not left, f"leftover shared memory {left}"
        assert [str(path) for path in self.home.rglob("*")] == [], "leftover files"

    def _alive(self) -> list[int]:
        return [pid for pid, created in self._seen.items() if _is_alive(pid, created)]

    def close(self) -> None:
        """Kill what is left, whatever has happened, and remove the folder."""
        if self.process.poll() is None:
            self._children()
            self.process.kill()
            self.process.wait()
        for pid in self._alive():
            os.kill(pid, signal.SIGKILL)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._folder.cleanup()


@contextmanager
def serving(
    store: ModelStore, *targets: str, ready_s: float = WAIT_S, **sections: Mapping[str, object]
) -> Iterator[Server]:
    """A server that is ready; in the end it is stopped in order, unless it has ended or the test failed.

    Args:
        store: what it serves.
        targets: tags; none for all.
        ready_s: seconds that it may take to be ready.
        sections: of the configuration: ``server={"services": 2}``, ``model={"instances": 2}`` …
    """
    server = Server(store, targets, sections)
    try:
        yield server.wait_ready(ready_s)
        if server.process.poll() is None:
            server.stop()
    except BaseException:
        sys.stderr.write(server.log[-20_000:])
        raise
    finally:
        server.close()


def _toml(store: ModelStore, sections: Sections) -> str:
    own = {"port": 0, "http_port": 0, "drain_delay_ms": 0, "grace_ms": 10_000, "store": str(store.root)}
    tables = {**sections, "server": {**own, **sections.get("server", {})}}
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNTIME_", "GRPC_"))}
    own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(home), "RUNTIME_HOME": str(home), "HOME": str(home)}
    return {**kept, **own}


def _arenas_of(pid: int) -> set[str]:
    """The arenas that a process maps, by inode."""
    return {words[4] for words in _mappings(pid) if "memfd:runtime-arena" in words[5]}


def _shared_memory_of(pid: int) -> set[str]:
    """The files of shared memory that a process maps; others on the machine have theirs."""
    return {words[5] for words in _mappings(pid) if words[5].startswith("/dev/shm/")}


def _mappings(pid: int) -> list[list[str]]:
    """The named mappings of a process, as the kernel lists them."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # ended meanwhile, or not ours
        return []
    return [words for line in lines if len(words := line.split(maxsplit=5)) == 6]


def _is_alive(pid: int, created: float) -> bool:
    """Whether any thread is left: the main one may be a zombie while others still hold the sockets."""
    try:
        process = psutil.Process(pid)
        if process.create_time() != created:
            return False
        return process.status() != psutil.STATUS_ZOMBIE or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
