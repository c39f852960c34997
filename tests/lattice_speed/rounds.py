"""Contenders timed in turns, round after round, and their ratios, so that a slow minute is slow for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Times = Mapping[str, Sequence[float]]
Spread = dict[str, float]
Clock = Callable[[], float]


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    turn_seconds: float,
    clock: Clock = time.thread_time,
) -> dict[str, list[float]]:
    """Seconds of a call of each contender, a figure a round: the mean over as many calls as fill ``turn_seconds``.

    Seconds are by default those that this thread had a processor for. The time that it waits for one is left out; what
    other processes cost it by the caches and the memory that it shares with them is not.
    Every contender is called before anything counts. In each round another one begins, so that each comes after
    each as often, as nearly as the number of rounds allows. Raises ValueError for less than one round or contender.
    """
    if rounds < 1 or not contenders:
        raise ValueError(
            f"there must be a round and a contender; got {rounds} rounds of {len(contenders)} contenders"
        )
    calls = {name: _calls(call, turn_seconds, clock) for name, call in contenders.items()}
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            call = contenders[name]
            began = clock()
            for _ in range(calls[name]):
                call()
            found[name].append((clock() - began) / calls[name])
    return found


def _calls(call: Callable[[], object], turn_seconds: float, clock: Clock) -> int:
    call()
    began = clock()
    call()
    return max(1, round(turn_seconds / max(clock() - began, 1e-9)))


def spread(figures: Sequence[float]) -> Spread:
    """Median and quartiles."""
    lower, middle, upper = np.percentile(figures, [25, 50, 75])
    return {"median": float(middle), "lower_quartile": float(lower), "upper_quartile": float(upper)}


def speed_up(times: Times, of: str, over: str) -> Spread:
    """How many times as fast ``of`` is as ``over``: the `spread` over the rounds of t(over) / t(of) of one round.

    Raises ValueError where the rounds are not as many.
    """
    return spread([slow / fast for fast, slow in zip(times[of], times[over], strict=True)])


def amdahl(share: float, factor: float) -> float:
    """1 / (1 - share + share / factor): how many times as fast the whole gets by a share that gets ``factor`` times.

    Source: G. Amdahl, "Validity of the single processor approach", AFIPS 30 (1967). Raises ValueError for a share
    outside [0, 1) and a factor of 0 or less; the factor may be infinite.
    """
    if not 0.0 <= share < 1.0 or not factor > 0.0:
        raise ValueError(f"share must lie in [0, 1) and factor above 0; got {share} and {factor}")
    return 1.0 / (1.0 - share + share / factor)
