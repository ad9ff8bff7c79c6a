"""`make bench`: measure agentq and its peers in turn, and print medians and ratios. BENCH_ARGS="--help" tells more."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import redis

from agentq.errors import StoreUnavailable
from bench import plots
from bench.measure import ROOT, Bed, Case, Peer, Sample, Unable, Workload, new_server
from bench.report import Result, goals, page, sample_line, setting, tables, versions
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    chosen = [workload for workload in WORKLOADS if workload.name in (options.only or workload.name)]
    began = time.monotonic()
    try:
        results = [_measure(workload, options) for workload in chosen]
        redis_version = _redis_version()
    except (StoreUnavailable, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 69
    for result in results:
        print(f"\n{tables(result)}\n\n{setting(result)}")
    print(f"\n{goals(results)}\n")
    print(f"- {versions(redis_version)}")
    print(f"- {time.monotonic() - began:.0f} s")
    if options.write:
        command = " ".join(["make bench", *(["BENCH_ARGS=--quick"] if options.quick else [])])
        plots.draw(results, PLOTS)
        PAGE.write_text(page(results, redis_version=redis_version, command=command, plots=PLOTS))
        print(f"\nwritten: {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="less work and fewer peers; the figures waver more")
    parser.add_argument("--rounds", type=_positive, help="how often each peer is measured, in place of the workload's")
    parser.add_argument("--runs", type=_positive, help="how many runs a round has, in place of the case's own number")
    parser.add_argument("--only", action="append", choices=[workload.name for workload in WORKLOADS], help="may repeat")
    parser.add_argument("--peer", action="append", help="only peers whose name contains this; may repeat")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plots")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _peers(workload: Workload, options: argparse.Namespace) -> list[Peer]:
    first, *others = workload.peers
    if options.peer:
        return [peer for peer in workload.peers if any(text.lower() in peer.name.lower() for text in options.peer)]
    return [first, *(peer for peer in others if not (options.quick and peer.slow))]


def _measure(workload: Workload, options: argparse.Namespace) -> Result:
    """All rounds of a workload, the peers in turn: A B A B. Each has a server of its own, emptied before a round."""
    print(f"{workload.name}: {workload.question}", flush=True)
    peers = _peers(workload, options)
    for peer in peers:
        peer.prepare()
    rounds = options.rounds or (workload.rounds_quick if options.quick else workload.rounds)
    result = Result(workload, tuple(peer.name for peer in peers), rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="agentq-bench-")))
        beds = {}
        for number, peer in enumerate(peers):
            server = new_server(folder / f"redis-{number}")
            stack.callback(server.stop)
            beds[peer.name] = Bed(server, folder / f"work-{number}")
        for case in workload.cases:
            runs = case.runs_quick if options.quick else case.runs
            if not runs:
                continue
            runs = options.runs or runs
            result.runs[case.name] = runs
            for number in range(1, rounds + 1):
                for peer in peers:
                    if (case.name, peer.name) in result.unable:
                        continue
                    label = " ".join(filter(None, (peer.name, case.name)))
                    try:
                        sample = _round(peer, beds[peer.name], case, runs)
                    except Unable as error:
                        result.unable[case.name, peer.name] = str(error)
                        print(f"  {number}/{rounds}  {label:<32} {error}", flush=True)
                        continue
                    result.add(case.name, peer.name, sample)
                    print(f"  {number}/{rounds}  {label:<32} {sample_line(sample, workload.figures)}", flush=True)
    return result


def _round(peer: Peer, bed: Bed, case: Case, runs: int) -> Sample:
    with redis.Redis.from_url(bed.server.url) as client:
        client.flushall()
    shutil.rmtree(bed.folder, ignore_errors=True)
    bed.folder.mkdir()
    return peer.measure(bed, case, runs)


def _redis_version() -> str:
    with TemporaryDirectory(prefix="agentq-bench-") as folder:
        server = new_server(Path(folder) / "version")
        try:
            with redis.Redis.from_url(server.url) as client:
                return str(client.info("server")["redis_version"])
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
