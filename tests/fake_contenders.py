"""Contenders for the tests of the benchmark that need a process of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from tests.bench.machines import Machine
from tests.bench.workers import Entry


class Fake:
    """Sleeps instead of training; says what its environment holds; fails or dies where it is told to."""

    def __init__(
        self,
        machine: Machine,
        threads: int,
        seconds: float = 0.001,
        losses: Sequence[float] = (3.0, 2.0, 1.0),
        fails_at: int | None = None,
        dies_at: int | None = None,
        megabytes: int = 0,
    ) -> None:
        self.seconds, self.losses, self.fails_at, self.dies_at = seconds, losses, fails_at, dies_at
        self.threads = threads
        self.steps = 0
        self.kept = b"x" * (megabytes * 1_000_000)

    def step(self) -> float:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("no compiler at /opt/somewhere/bin/g++\nand more lines")
        if self.steps == self.dies_at:
            os._exit(7)
        time.sleep(self.seconds)
        return self.losses[(self.steps - 1) % len(self.losses)]

    def forward(self) -> None:
        time.sleep(self.seconds)

    def backward(self) -> None:
        time.sleep(2 * self.seconds)

    def update(self) -> None:
        time.sleep(self.seconds)


class Environment:
    """Its losses are what its process was given: threads of the libraries, processors, and how long threads wait."""

    def __init__(self, machine: Machine, threads: int) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads
        variables = [os.environ[name] for name in ("OMP_NUM_THREADS", "KMP_BLOCKTIME")]
        threads_of_libraries, waiting = map(float, variables)
        self.found = iter([threads_of_libraries, float(processors), waiting])

    def step(self) -> float:
        return next(self.found)


def fake(maker: str = "Fake", trains: bool = True, **arguments: Any) -> Entry:
    return Entry("tests.fake_contenders", maker, arguments, trains=trains)
