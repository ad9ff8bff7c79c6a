"""`make bench`: measure agentq and its peers in turn, and print medians and ratios. BENCH_ARGS="--help" tells more."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import redis

from agentq.errors import StoreUnavailable
from bench.measure import Sample, Workload, new_server
from bench.report import Result, page, sample_line, setting, table, versions
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_ROUNDS = 5
_ROUNDS_QUICK = 3


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    chosen = [workload for workload in WORKLOADS if workload.name in (options.only or workload.name)]
    try:
        rounds = options.rounds or (_ROUNDS_QUICK if options.quick else _ROUNDS)
        results = [_measure(workload, _runs(workload, options), rounds) for workload in chosen]
        redis_version = _redis_version()
    except StoreUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 69
    for result in results:
        print(f"\n{table(result)}\n\n{setting(result)}")
    print(f"- {versions(redis_version)}")
    if options.write:
        command = " ".join(["make bench", *(["BENCH_ARGS=--quick"] if options.quick else [])])
        PAGE.write_text(page(results, redis_version=redis_version, command=command))
        print(f"\nwritten: {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="less work; the figures waver more")
    parser.add_argument("--rounds", type=_positive, help="how often each peer is measured [5; with --quick 3]")
    parser.add_argument(
        "--runs", type=_positive, help="how many runs a round has, in place of the workload's own number"
    )
    parser.add_argument("--only", action="append", choices=[workload.name for workload in WORKLOADS], help="may repeat")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _runs(workload: Workload, options: argparse.Namespace) -> int:
    runs: int = options.runs or (workload.runs_quick if options.quick else workload.runs)
    return runs


def _measure(workload: Workload, runs: int, rounds: int) -> Result:
    """All rounds of a workload, the peers in turn: A B A B. Each has a server of its own, emptied before a round."""
    print(f"{workload.name}: {workload.question}", flush=True)
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in workload.peers}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="agentq-bench-")))
        servers = {}
        for number, peer in enumerate(workload.peers):
            servers[peer.name] = new_server(folder / str(number))
            stack.callback(servers[peer.name].stop)
        for number in range(1, rounds + 1):
            for peer in workload.peers:
                server = servers[peer.name]
                with redis.Redis.from_url(server.url) as client:
                    client.flushall()
                sample = peer.measure(server, runs)
                samples[peer.name].append(sample)
                print(f"  {number}/{rounds}  {peer.name:<16} {sample_line(sample, workload.figures)}", flush=True)
    return Result(workload, runs, samples)


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
