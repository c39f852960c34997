"""What is measured: contenders side by side, the step taken apart, a neighbour in the way, a fresh start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.cold_start import cold_starts
from tests.bench.machines import BUSY, CURVES, DOCUMENTED, HEADLINE, Machine
from tests.bench.summary import require_agreement, round_medians, round_ratios, spread_of
from tests.bench.workers import (
    EAGER,
    JITTED,
    OURS,
    PRODUCTS,
    Entry,
    NotRun,
    Worker,
    all_threads,
    reason,
)

Report = Callable[[str], None]
Row = dict[str, Any]
CURVE_CONTENDERS = (OURS, EAGER, JITTED, PRODUCTS)
PAIR = (OURS, EAGER)
# Until the scheduler has found a place for the neighbour.
NEIGHBOUR_SECONDS = 0.2


@dataclass(frozen=True)
class Turns:
    """In each of the rounds every contender makes at least so many steps, for at least so many seconds."""

    rounds: int
    least: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a run of the benchmark measures, and how often."""

    headline: tuple[Machine, ...]
    threads: tuple[int, ...]
    turns: Turns
    curves: Mapping[str, tuple[Machine, ...]] = field(default_factory=dict)
    curve_turns: Turns = Turns(rounds=4, least=3, seconds=0.25)
    phases: tuple[Machine, ...] = ()
    busy: tuple[Machine, ...] = ()
    cold_starts: int = 0


def full_plan() -> Plan:
    """Everything, in at most some 25 minutes on two cores."""
    return Plan(
        headline=HEADLINE,
        threads=tuple(sorted({1, all_threads()})),
        turns=Turns(rounds=8, least=3, seconds=0.4),
        curves=CURVES,
        phases=(DOCUMENTED,),
        busy=BUSY,
        cold_starts=3,
    )


def quick_plan() -> Plan:
    """The headline alone, on all processors, in a few minutes."""
    return Plan(headline=HEADLINE, threads=(all_threads(),), turns=Turns(rounds=4, least=3, seconds=0.2))


class Bench:
    """Runs a plan and gathers its rows; one that could not be had is in ``not_run`` with its reason.

    ``blas`` is the linear algebra that each contender's process loads, as far as threadpoolctl knows it.
    """

    def __init__(self, contenders: Mapping[str, Entry], report: Report) -> None:
        self.contenders = contenders
        self.report = report
        self.steps: list[Row] = []
        self.phases: list[Row] = []
        self.busy: list[Row] = []
        self.cold_start: list[Row] = []
        self.not_run: list[Row] = []
        self.blas: dict[str, list[Row]] = {}

    def run(self, plan: Plan) -> None:
        """Everything of the plan. Raises DisagreementError where contenders train different machines."""
        most = max(plan.threads)
        for threads in plan.threads:
            for machine in plan.headline:
                self.compare(machine, tuple(self.contenders), threads, plan.turns)
        done = set(plan.headline)
        for machine in dict.fromkeys(m for machines in plan.curves.values() for m in machines):
            if machine not in done:
                self.compare(machine, CURVE_CONTENDERS, most, plan.curve_turns)
        for machine in plan.phases:
            self.take_apart(machine, most, plan.turns)
        for machine in plan.busy:
            self.disturb(machine, most, plan.turns)
        if plan.cold_starts:
            self.start_cold(plan.cold_starts)

    def compare(self, machine: Machine, names: Sequence[str], threads: int, turns: Turns) -> None:
        """Every named contender's step, in rounds in which each has its turn; a row per contender."""
        where = {**placed(machine, threads), "measured": "step"}
        with self._working(names, where, machine, threads) as workers:
            taken: dict[str, list[list[float]]] = {name: [] for name in workers}
            for _ in range(turns.rounds):
                for name in list(workers):
                    with self._or_not_run(workers, name, where):
                        taken[name].append(workers[name].steps(turns.least, turns.seconds))
            memory: dict[str, int] = {}
            for name in list(workers):
                with self._or_not_run(workers, name, where):
                    memory[name] = workers[name].peak_memory()
            medians = {name: round_medians(taken[name]) for name in workers}
            for name, worker in workers.items():
                self.blas[name] = worker.facts["blas"]
                ratios = round_ratios(medians[name], medians[OURS]) if OURS in medians else []
                self.steps.append(
                    {
                        **placed(machine, threads),
                        "contender": name,
                        "trains": self.contenders[name].trains,
                        **spread_of([seconds for turn in taken[name] for seconds in turn]),
                        "round_medians": medians[name],
                        "round_ratios": ratios,
                        "ratio": spread_of(ratios)["median"] if ratios else None,
                        "first_losses": worker.facts["losses"],
                        "start_seconds": worker.facts["start_seconds"],
                        "peak_memory_bytes": memory[name],
                    }
                )
                self._report_row(self.steps[-1])

    def take_apart(self, machine: Machine, threads: int, turns: Turns) -> None:
        """Forward pass, backward pass and update of this library and of its nearest peer."""
        where = {**placed(machine, threads), "measured": "phases"}
        with self._working(PAIR, where, machine, threads) as workers:
            taken: dict[str, list[dict[str, list[float]]]] = {name: [] for name in workers}
            for _ in range(turns.rounds):
                for name in list(workers):
                    with self._or_not_run(workers, name, where):
                        taken[name].append(workers[name].phases(turns.least, turns.seconds))
            for name in workers:
                for phase in taken[name][0]:
                    seconds = [value for turn in taken[name] for value in turn[phase]]
                    row = {
                        **placed(machine, threads),
                        "contender": name,
                        "phase": phase,
                        **spread_of(seconds),
                    }
                    self.phases.append(row)
                    self._report_row(row)

    def disturb(self, machine: Machine, threads: int, turns: Turns) -> None:
        """The step alone and with another process that burns a core, by turns; their ratio is the slowdown."""
        where = {**placed(machine, threads), "measured": "busy"}
        with self._working(PAIR, where, machine, threads) as workers:
            quiet: dict[str, list[list[float]]] = {name: [] for name in workers}
            busy: dict[str, list[list[float]]] = {name: [] for name in workers}
            for _ in range(turns.rounds):
                for name in list(workers):
                    with self._or_not_run(workers, name, where):
                        quiet[name].append(workers[name].steps(turns.least, turns.seconds))
                        with neighbour():
                            busy[name].append(workers[name].steps(turns.least, turns.seconds))
            for name in workers:
                ratios = round_ratios(round_medians(busy[name]), round_medians(quiet[name]))
                for state, rounds in (("quiet", quiet[name]), ("busy", busy[name])):
                    seconds = [value for turn in rounds for value in turn]
                    row = {
                        **placed(machine, threads),
                        "contender": name,
                        "state": state,
                        **spread_of(seconds),
                        "slowdown": spread_of(ratios)["median"] if state == "busy" else 1.0,
                    }
                    self.busy.append(row)
                    self._report_row(row)

    def start_cold(self, times: int) -> None:
        """Import and first step in fresh processes; a library that cannot be had is not run."""
        for name in PAIR:
            try:
                self.cold_start += cold_starts(name, times)
            except (OSError, subprocess.SubprocessError) as error:
                self._not_run(name, {"measured": "cold start"}, reason(error))
        for row in self.cold_start:
            self._report_row(row)

    @contextmanager
    def _working(
        self, names: Sequence[str], where: Row, machine: Machine, threads: int
    ) -> Iterator[dict[str, Worker]]:
        """The named contenders that could be started, of one machine; they end with the block."""
        workers: dict[str, Worker] = {}
        started: list[Worker] = []
        try:
            for name in names:
                try:
                    workers[name] = Worker(self.contenders[name], machine, threads)
                except NotRun as why:
                    self._not_run(name, where, str(why))
                else:
                    started.append(workers[name])
                    seconds = workers[name].facts["start_seconds"]
                    self.report(f"{machine.name}, {said(threads)}: {name} started in {seconds:.1f} s")
            require_agreement({name: w.facts["losses"] for name, w in workers.items() if w.facts["losses"]})
            yield workers
        finally:
            for worker in started:
                worker.close()

    @contextmanager
    def _or_not_run(self, workers: dict[str, Worker], name: str, where: Row) -> Iterator[None]:
        """Takes a contender that fails in the block out of the comparison."""
        try:
            yield
        except NotRun as why:
            del workers[name]
            self._not_run(name, where, str(why))

    def _not_run(self, name: str, where: Row, why: str) -> None:
        self.not_run.append({**where, "contender": name, "reason": why})
        self.report(f"{name}: not run: {why}")

    def _report_row(self, row: Row) -> None:
        threads = row.get("threads")
        words = [row.get("machine"), threads and said(threads), row["contender"], row.get("phase")]
        words += [row.get("state")]
        words += [row.get("waited_for"), row.get("kernel_cache") and f"kernel cache {row['kernel_cache']}"]
        middle = f"{row['median'] * 1e3:.2f} ms, {row['repetitions']} times"
        self.report(f"{', '.join(word for word in words if word)}: {middle}")


def placed(machine: Machine, threads: int) -> Row:
    """The columns that say what was trained, and on how many threads."""
    return {"machine": machine.name, **machine.as_dict(), "threads": threads}


def said(threads: int) -> str:
    """The number of threads in words."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


@contextmanager
def neighbour() -> Iterator[None]:
    """Another process that burns a core for as long as the block lasts."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(NEIGHBOUR_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()
