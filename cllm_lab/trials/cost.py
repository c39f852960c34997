"""What a step costs: each machine and the baseline in turn, step by step, so that a busy moment falls on both."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median, quantiles
from typing import Any

from threadpoolctl import threadpool_limits

from cllm_lab.trials.run import Plain, trainer_of

ROUNDS = 7
STEPS = 8
WARM_UP = 4


def cost_ratios(
    descriptions: Mapping[str, Mapping[str, Any]], baseline: str, rounds: int = ROUNDS, steps: int = STEPS
) -> Plain:
    """Seconds of a step of each described machine, and how many of the baseline's steps it takes.

    In each round the machine and the baseline make ``steps`` steps in turn, now the one first, now the other; the
    round's ratio is that of their medians. Gives ``machines``: name -> ``seconds``; ``parts``: {"ratio", "low",
    "high"}, the median and the quartiles over the rounds, both machines through their single parts; ``as_run``: the
    same, each as a trainer runs it, with the compiled pass where it suits. ``validation_seconds``: of the baseline.
    On one thread, in seconds of its own processor time, so that what else the machine does is not counted. Learning
    rates do not matter here. Raises KeyError where the baseline is not among the descriptions.
    """
    with threadpool_limits(limits=1):
        machines = {
            name: _against(one, descriptions[baseline], rounds, steps) for name, one in descriptions.items()
        }
        trainer = trainer_of(descriptions[baseline])
        trainer.validation_loss()
        began = time.thread_time()
        trainer.validation_loss()
        return {"validation_seconds": time.thread_time() - began, "machines": machines}


def _against(one: Mapping[str, Any], baseline: Mapping[str, Any], rounds: int, steps: int) -> Plain:
    seconds, parts = _ratios(one, baseline, rounds, steps, through_parts=True)
    _, as_run = _ratios(one, baseline, rounds, steps, through_parts=False)
    return {"seconds": seconds, "parts": _spread(parts), "as_run": _spread(as_run)}


def _ratios(
    one: Mapping[str, Any], baseline: Mapping[str, Any], rounds: int, steps: int, through_parts: bool
) -> tuple[float, list[float]]:
    """The machine's median seconds of a step, and its ratio to the baseline in each round."""
    own, other = (trainer_of(each, through_parts).steps() for each in (one, baseline))
    for _ in range(WARM_UP):
        next(own)
        next(other)
    taken: list[float] = []
    ratios = []
    for _ in range(rounds):
        mine: list[float] = []
        its: list[float] = []
        for turn in range(steps):
            # The first of two steps finds the caches full of the other machine and is the slower one.
            for machine, seconds in ((own, mine), (other, its))[:: 1 if turn % 2 else -1]:
                seconds.append(_seconds(machine))
        taken += mine
        ratios.append(median(mine) / median(its))
    return median(taken), ratios


def _seconds(steps: Iterator[object]) -> float:
    began = time.thread_time()
    next(steps)
    return time.thread_time() - began


def _spread(ratios: list[float]) -> dict[str, float]:
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return {"ratio": middle, "low": low, "high": high}
