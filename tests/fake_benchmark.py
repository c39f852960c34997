"""A run of the benchmark in which every contender takes exactly the time that is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from tests.bench import cold_start, measure
from tests.bench.machines import Machine
from tests.bench.measure import Bench, Plan, Turns
from tests.bench.results import results_of
from tests.bench.workers import CONTENDERS, EAGER, JITTED, OURS, PRODUCTS, Entry, NotRun


class BookWorker:
    """Stands in for a worker: a step of a machine takes ``milliseconds`` times d_model / 64, and no time."""

    def __init__(self, entry: Entry, machine: Machine, threads: int) -> None:
        if "absent" in entry.arguments:
            raise NotRun(entry.arguments["absent"])
        self.seconds = entry.arguments["milliseconds"] * 1e-3 * machine.d_model / 64 / threads
        self.turn = 0
        losses = [2.0, 1.5, 1.25] if entry.trains else []
        self.facts: dict[str, Any] = {"losses": losses, "start_seconds": 0.5, "blas": []}

    def steps(self, least: int, seconds: float) -> list[float]:
        # The second round meets a machine that is twice as slow.
        self.turn += 1
        slow = 2.0 if self.turn % 2 == 0 else 1.0
        return [self.seconds * slow * share for share in (0.9, 1.0, 1.2)]

    def phases(self, least: int, seconds: float) -> dict[str, list[float]]:
        return {phase: [self.seconds / 3] * least for phase in ("forward", "backward", "update")}

    def peak_memory(self) -> int:
        return 50_000_000

    def close(self) -> None:
        pass


SMALL = Machine(64, 2, 4, 611)
WIDE = Machine(128, 2, 4, 611)
BOOK_PLAN = Plan(
    headline=(SMALL, WIDE),
    threads=(1, 2),
    turns=Turns(rounds=3, least=3, seconds=0.0),
    curve_turns=Turns(rounds=3, least=3, seconds=0.0),
    curves={"d_model": (SMALL, WIDE), "batch_size": (SMALL, Machine(64, 2, 4, 611, batch_size=16))},
    phases=(SMALL,),
    busy=(SMALL,),
    cold_starts=3,
)
BOOK_MILLISECONDS = {OURS: 2.0, EAGER: 3.0, JITTED: 4.0, PRODUCTS: 1.0}
REASON = "ModuleNotFoundError: No module named 'inductor'"
BOOK_CONTENDERS = {
    **{
        name: Entry("", "", {"milliseconds": milliseconds}, trains=CONTENDERS[name].trains)
        for name, milliseconds in BOOK_MILLISECONDS.items()
    },
    "PyTorch compiled": Entry("", "", {"absent": REASON}),
}


def book_results(plan: Plan = BOOK_PLAN) -> dict[str, Any]:
    """The results of a run in which every contender takes exactly its milliseconds and one is absent."""
    bench = Bench(BOOK_CONTENDERS, lambda line: None)
    with (
        patch.object(measure, "Worker", BookWorker),
        patch.object(measure, "NEIGHBOUR_SECONDS", 0.0),
        patch.object(cold_start, "_in_a_fresh_process", _in_no_process),
    ):
        bench.run(plan)
    return results_of(bench, plan)


def _in_no_process(name: str, variables: Mapping[str, str]) -> dict[str, float]:
    return {"import": 0.25, "first step": 1.0 if variables else 2.0}
