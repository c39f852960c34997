"""The learning rate of each arm: the one of the grid with the lowest mean loss over seeds of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cllm_lab.model.config import ConfigError
from cllm_lab.trials.comparison import lowest_or_none
from cllm_lab.trials.run import Plain


def require_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """The grid, rising. Raises ConfigError where it is empty or names a rate twice, or one not above 0."""
    grid = tuple(sorted(float(rate) for rate in rates))
    if not grid or len(set(grid)) < len(grid) or grid[0] <= 0.0:
        raise ConfigError(f"learning_rates must be one or more different rates above 0; got {tuple(rates)!r}")
    return grid


def best_rate(results: Mapping[float, Sequence[Mapping[str, Any]]]) -> Plain:
    """The rate whose runs have the lowest mean of their lowest validation losses, in nats; the lower of two as good.

    ``learning_rate``; ``losses``, [[rate, mean], ...] rising in the rate, None where a run is not even finite at step
    0, or where one diverged while those of another rate did not; ``edge``: "lowest" or "highest" where the best lies at
    that end of the grid and a better one may lie beyond, "only" for a grid of one, else None. Without any finite mean
    the rate is the lowest.
    """
    steady = {rate for rate, runs in results.items() if not any(run["diverged"] for run in runs)}
    means: dict[float, float | None] = {}
    for rate in sorted(results):
        losses = [lowest_or_none(result) for result in results[rate]]
        finite = [loss for loss in losses if loss is not None]
        counts = len(finite) == len(losses) and (rate in steady or not steady)
        means[rate] = fmean(finite) if counts else None
    grid = list(means)
    best = min(grid, key=lambda rate: float("inf") if means[rate] is None else float(means[rate] or 0.0))
    edges = {grid[0]: "lowest", grid[-1]: "highest"} if len(grid) > 1 else {grid[0]: "only"}
    return {
        "learning_rate": best,
        "losses": [[rate, mean] for rate, mean in means.items()],
        "edge": edges.get(best),
    }
