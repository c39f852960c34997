"""`python -m tests.bench`: measure, print, store. Progress goes to standard error."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import pandas

from cllm_lab.resources import data_path
from cllm_lab.views.benchmark import Benchmark, benchmark_bars
from tests.bench.measure import Bench, Report, full_plan, quick_plan, said
from tests.bench.results import results_of, store
from tests.bench.summary import DisagreementError
from tests.bench.workers import CONTENDERS

TIMES = ["median", "lower_quartile", "upper_quartile", "minimum"]
STORED = "benchmark.json"


def main(arguments: list[str] | None = None) -> None:
    """Runs the plan that was asked for. SystemExit where the contenders do not train the same machine."""
    asked = _asked(arguments)
    plan = quick_plan() if asked.quick else full_plan()
    bench = Bench(CONTENDERS, timed_report(time.monotonic()))
    try:
        bench.run(plan)
    except DisagreementError as error:
        raise SystemExit(f"no comparison: {error}") from error
    stored = results_of(bench, plan)
    if asked.save is not None:
        store(stored, asked.save)
    results = Benchmark.of(stored)
    print("\n\n".join(tables(results)))
    if asked.picture is not None:
        benchmark_bars(results).save(asked.picture)


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        allow_abbrev=False,
        description="Times a training step of cllm_lab, PyTorch and JAX, and the bare matrix products of a step.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the four headline machines alone, in a few minutes; saves nothing",
    )
    parser.add_argument("--save", type=Path, metavar="PATH", help=f"JSON to write (full run: data/{STORED})")
    parser.add_argument(
        "--picture", type=Path, metavar="PATH", help="PNG to draw (full run: beside the JSON)"
    )
    asked = parser.parse_args(arguments)
    if not asked.quick:
        folder = data_path("README.md").parent
        asked.save = asked.save or folder / STORED
        asked.picture = asked.picture or asked.save.with_suffix(".png")
    for path in (asked.save, asked.picture):
        if path is not None and not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent} to write {path.name} to")
    return asked


def timed_report(started: float) -> Report:
    """Writes a line to standard error, the minutes and seconds since ``started`` before it."""

    def report(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(f"{minutes:2d}:{seconds:02d} {line}", file=sys.stderr, flush=True)

    return report


def tables(results: Benchmark) -> list[str]:
    """The results as text, each table under its title. Times in milliseconds, starts in seconds."""
    parts = []
    steps = results.steps.assign(MB=results.steps["peak_memory_bytes"] / 1e6)
    for machine, threads in steps[["machine", "threads"]].drop_duplicates().itertuples(index=False):
        rows = steps[(steps["machine"] == machine) & (steps["threads"] == threads)]
        shown = _milliseconds(rows)[["contender", *TIMES, "repetitions", "ratio", "MB", "start_seconds"]]
        lines = [f"{machine}, {said(threads)}", _text(shown)]
        over = results.over_products(threads).get(machine)
        if over is not None:
            lines.append(f"{results.reference} takes {over:.2f} times its {results.bare_products}")
        parts.append("\n".join(lines))
    for title, frame, columns in (
        ("The step taken apart", results.phases, ["machine", "contender", "phase", *TIMES]),
        ("Beside a busy process", results.busy, ["machine", "contender", "state", *TIMES, "slowdown"]),
        ("A fresh start", results.cold_start, ["contender", "kernel_cache", "waited_for", *TIMES]),
        ("Not run", results.not_run, ["contender", "reason"]),
    ):
        if not frame.empty:
            parts.append(f"{title}\n{_text(_milliseconds(frame)[columns].drop_duplicates())}")
    if not results.phases.empty:
        parts.append("\n".join(_said_of_phase(claim) for claim in results.claims.itertuples()))
    return parts


def _said_of_phase(claim: Any) -> str:
    return f"{claim.source} says of {claim.phase}: {claim.least * 1e3:.0f} to {claim.most * 1e3:.0f} ms"


def _milliseconds(rows: pandas.DataFrame) -> pandas.DataFrame:
    return rows.assign(**{column: rows[column] * 1e3 for column in TIMES if column in rows})


def _text(frame: pandas.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda value: f"{value:.3f}")


if __name__ == "__main__":
    main()
