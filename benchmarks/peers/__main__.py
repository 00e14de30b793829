"""One command from nothing to the table: ``python -m benchmarks.peers [--only NAME,…] [--quick]``.

Each peer gets an environment of its own (made on first use), is started beside our server, and both are
measured in turn; then both end. A peer that cannot be installed or started is reported with the reason.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import grpc

from benchmarks import results
from benchmarks.overhead import SHAPES
from benchmarks.peers import environments, report
from benchmarks.peers.foreign import BentoML, RayServe, TorchServe
from benchmarks.peers.load import Loader, LoadFailed
from benchmarks.peers.open_inference import MLServer, MLServerWorker, Runtime, Triton
from benchmarks.peers.peer import NotAvailable, Peer
from benchmarks.peers.profiled import profile
from benchmarks.peers.report import Case, Comparison
from benchmarks.peers.served.compute import WIDTHS
from benchmarks.peers.server import Served, serving

PEERS: tuple[type[Peer], ...] = (Triton, MLServer, MLServerWorker, BentoML, RayServe, TorchServe)
IDLE_S = 1.0

Progress = Callable[[], None]


def chosen(only: str) -> list[Peer]:
    """Return the peers of a comma-separated list, or all.

    Raises:
        click.BadParameter: one is unknown.
    """
    known = {peer.name: peer for peer in PEERS}
    names = [name.strip() for name in only.split(",")] if only else list(known)
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(
            f"unknown: {', '.join(unknown)}; known: {', '.join(known)}", param_hint="--only"
        )
    return [known[name]() for name in names]


def take_turns(case: Case, ours: Loader, theirs: Loader, rounds: int, seconds: float) -> Iterator[None]:
    """Measure both in each round; who comes first changes. Yields after each measurement."""
    for number in range(rounds):
        pairs = [(ours, case.ours), (theirs, case.theirs)]
        for loader, collected in pairs if number % 2 == 0 else reversed(pairs):
            collected.append(loader.measure(seconds))
            yield


def idle_share(served: Served) -> float:
    """Return the share of a core that a server takes when nobody calls."""
    before = served.cpu_seconds()
    time.sleep(IDLE_S)
    return sum(cpu - before.get(pid, 0.0) for pid, cpu in served.cpu_seconds().items()) / IDLE_S


def measure(
    ours: Served, theirs: Served, loads: Sequence[int], rounds: int, seconds: float, progress: Progress
) -> list[Case]:
    """Measure all models under all loads."""
    cases = []
    with tempfile.TemporaryDirectory() as name:
        for model in WIDTHS:
            for in_flight in loads:
                case, failure = Case(model, in_flight), ""
                loaders = [Loader(served, model, in_flight, Path(name)) for served in (ours, theirs)]
                try:
                    for _ in take_turns(case, loaders[0], loaders[1], rounds, seconds):
                        progress()
                except (LoadFailed, grpc.RpcError, ValueError) as error:
                    failure = str(error)
                disturbed = sum(loader.disturbed for loader in loaders)
                cases.append(Case(model, in_flight, case.ours, case.theirs, failure, disturbed))
    return cases


def compare(peer: Peer, loads: Sequence[int], rounds: int, seconds: float, progress: Progress) -> Comparison:
    """Install a peer, start both, measure, end both."""
    versions = ""
    try:
        if missing := peer.missing():
            return Comparison(peer.title, peer.configuration, reason=missing)
        python = environments.install(peer.installed_as, peer.requirements)
        versions = environments.versions(python, peer.packages)
        with (
            tempfile.TemporaryDirectory() as name,
            serving(peer, python, Path(name) / "theirs") as theirs,
            serving(Runtime(), Path(sys.executable), Path(name) / "ours") as ours,
        ):
            idle = idle_share(theirs)
            versions = ", ".join(filter(None, (peer.version(theirs.port), versions)))
            cases = measure(ours, theirs, loads, rounds, seconds, progress)
            profiles = None
            if peer.speaks_open_inference:
                profiles = profile(ours, Path(name)), profile(theirs, Path(name))
            return Comparison(
                peer.title, peer.configuration, versions, cases, idle, theirs.ready_s, profiles=profiles
            )
    except (NotAvailable, environments.InstallFailed) as error:
        return Comparison(peer.title, peer.configuration, versions, reason=str(error))


@click.command()
@click.option("--only", default="", metavar="NAME,…", help=f"Of {', '.join(peer.name for peer in PEERS)}.")
@click.option("--quick", is_flag=True, help="Two loads, one short round: to see that it works.")
@click.option("--rounds", default=3, show_default=True, help="Measurements of each case; the median counts.")
@click.option("--seconds", default=0.8, show_default=True, help="Length of one measurement.")
@click.option(
    "--keep/--no-keep",
    default=True,
    show_default=True,
    help="Write to RESULTS.md, unless --only or --quick.",
)
def main(only: str, quick: bool, rounds: int, seconds: float, keep: bool) -> None:
    """Compare with other servers, each beside ours, in turn."""
    if shutil.which("h2load") is None:
        raise click.ClickException("h2load is needed: apt-get install nghttp2-client")
    peers = chosen(only)
    loads = tuple(SHAPES) if not quick else (1, 64)
    rounds, seconds = (1, 0.3) if quick else (rounds, seconds)
    steps = len(loads) * len(WIDTHS) * rounds * 2
    comparisons = []
    for peer in peers:
        with click.progressbar(length=steps, label=f"{peer.name:>16}", file=sys.stderr) as bar:
            comparisons.append(compare(peer, loads, rounds, seconds, lambda: bar.update(1)))
        if comparisons[-1].reason:
            click.echo(f"{peer.title}: {comparisons[-1].reason}", err=True)
    ours = Comparison(Runtime.title, Runtime.configuration, results.fingerprint(*Runtime.packages))
    text = report.text(comparisons, ours)
    click.echo(text)
    if keep and not quick and not only:
        results.keep("Peers", f"`python -m benchmarks.peers`, {rounds} rounds.\n\n{text}")


if __name__ == "__main__":
    main()
