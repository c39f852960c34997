"""From the results of runs to rows: every arm against the baseline, pair by pair, in three comparisons."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from cllm_lab.trials import curves
from cllm_lab.trials.run import Plain
from cllm_lab.trials.statistics import ALPHA, IDENTICAL, NOT_SHOWN, detectable, holm, paired, verdict

# How far above the baseline's lowest loss the level lies that every machine is to reach, as a share of its fall.
LEVEL_SHARE = 0.02
DIVERGED = "diverged"


def lowest_or_none(result: Mapping[str, Any], steps: float = math.inf) -> float | None:
    """The lowest validation loss of a run within so many steps, in nats; None where even step 0 is not finite."""
    return curves.lowest(result["validation"], steps) if result["validation"] else None


def family(
    differences: Mapping[Any, Sequence[float] | None], identical: Collection[Any] = ()
) -> dict[Any, Plain]:
    """Key -> effect, low, high, p, p_corrected, verdict and detectable, of paired differences in nats.

    Corrected by Holm's method over all keys that have differences; ``low`` and ``high`` are not. One without them is
    "diverged" and has no figures; ``identical`` are those whose runs are equal in all that was measured.
    """
    effects = {key: paired(values) for key, values in differences.items() if values is not None}
    corrected = dict(zip(effects, holm([effect.p for effect in effects.values()]), strict=True))
    figures: dict[Any, Plain] = {}
    for key in differences:
        effect = effects.get(key)
        if effect is None:
            nothing = dict.fromkeys(("effect", "low", "high", "p", "p_corrected", "detectable"))
            figures[key] = {**nothing, "verdict": DIVERGED}
            continue
        figures[key] = {
            "effect": effect.mean,
            "low": effect.low,
            "high": effect.high,
            "p": effect.p,
            "p_corrected": corrected[key],
            "detectable": detectable(effect.pairs, len(effects), effect.deviation),
            "verdict": IDENTICAL if key in identical else verdict(effect, corrected[key]),
        }
    return figures


def at_equal_steps(arm: Sequence[Plain], baseline: Sequence[Plain]) -> list[float] | None:
    """Arm minus baseline, pair by pair: the lowest validation losses of the whole runs. None where one has none."""
    return _differences([lowest_or_none(run) for run in arm], [lowest_or_none(run) for run in baseline])


def at_any_cost(
    readings: Sequence[Mapping[Any, Sequence[float] | None]], identical: Collection[Any] = ()
) -> dict[Any, Plain]:
    """`family` of the differences in the middle one of several readings, which must hold in all of them.

    The readings are of one comparison at the lower quartile, the median and the upper quartile of a measured cost:
    ``p_corrected`` is the largest of theirs, and where their effects differ in sign no difference is shown.
    """
    families = [family(differences, identical) for differences in readings]
    found = {}
    for key, middle in families[len(families) // 2].items():
        rows = [each[key] for each in families]
        if any(row["effect"] is None for row in rows) or middle["verdict"] == IDENTICAL:
            found[key] = middle
            continue
        worst = max(row["p_corrected"] for row in rows)
        one_sign = all(row["effect"] < 0.0 for row in rows) or all(row["effect"] > 0.0 for row in rows)
        shown = middle["verdict"] if one_sign and worst < ALPHA else NOT_SHOWN
        found[key] = {**middle, "p_corrected": worst, "verdict": shown}
    return found


def are_identical(arm: Sequence[Plain], baseline: Sequence[Plain]) -> bool:
    """Whether all that was measured of every pair is the same: each validation loss, and where it ceased."""
    return all(
        (own["validation"], own["diverged"]) == (other["validation"], other["diverged"])
        for own, other in zip(arm, baseline, strict=True)
    )


def likely_ratios(cost: Mapping[str, float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of a measured cost; 1 where the quartiles do not exclude it."""
    if cost["low"] <= 1.0 <= cost["high"]:
        return 1.0, 1.0, 1.0
    return cost["low"], cost["ratio"], cost["high"]


def at_equal_time(
    arm: Sequence[Plain], baseline: Sequence[Plain], steps: int, ratio: float
) -> list[float] | None:
    """The same at equal time, where a step of the arm takes ``ratio`` times as long as one of the baseline.

    The slower machine is read after the steps that it makes while the faster one makes all of its own. Both rates were
    tuned for all steps, which may serve the slower one badly.
    """
    return _differences(
        [lowest_or_none(run, steps / max(1.0, ratio)) for run in arm],
        [lowest_or_none(run, steps * min(1.0, ratio)) for run in baseline],
    )


def level(baseline: Sequence[Plain]) -> float:
    """The loss to reach: the baseline's mean lowest, and `LEVEL_SHARE` of its mean fall from step 0 above it."""
    low = fmean(curves.lowest(run["validation"]) for run in baseline)
    first = fmean(run["validation"][0][1] for run in baseline)
    return low + LEVEL_SHARE * (first - low)


def steps_ratio(arm: Sequence[Plain], baseline: Sequence[Plain]) -> Plain:
    """Median over the pairs of the steps to the baseline's `level`, arm over baseline, and how many reached it.

    An arm that did not reach it counts as infinitely slow, a baseline as infinitely slower; pairs of which neither
    did say nothing. ``steps_ratio`` is None where the median is not finite or no pair says anything.
    """
    wanted = level(baseline)
    ratios = []
    reached = {"arm": 0, "baseline": 0}
    for own, other in zip(arm, baseline, strict=True):
        steps, reference = (curves.steps_to(run["validation"], wanted) for run in (own, other))
        reached["arm"] += steps is not None
        reached["baseline"] += reference is not None
        if steps is None and reference is None:
            continue
        if steps is None:
            ratios.append(math.inf)
        elif reference is None:
            ratios.append(0.0)
        else:
            # A level that holds from the start is reached by both at once.
            ratios.append(steps / reference if reference else 1.0 if steps == 0.0 else math.inf)
    middle = median(ratios) if ratios else math.inf
    return {
        "steps_ratio": middle if math.isfinite(middle) else None,
        "reached": reached["arm"],
        "baseline_reached": reached["baseline"],
    }


def strengths(runs: Sequence[Plain]) -> Plain:
    """Learnt strengths over all runs, layers and heads: mean at the start and at the end, and the extremes at the end.

    None for a machine that has none to learn; those that ceased to be finite are left out.
    """
    tensors = [tensor for run in runs for tensor in run["strengths"].values() if tensor["end"] is not None]
    if not tensors:
        return dict.fromkeys(("strength_start", "strength_mean", "strength_min", "strength_max"))
    return {
        "strength_start": fmean(tensor["start"]["mean"] for tensor in tensors),
        "strength_mean": fmean(tensor["end"]["mean"] for tensor in tensors),
        "strength_min": min(tensor["end"]["min"] for tensor in tensors),
        "strength_max": max(tensor["end"]["max"] for tensor in tensors),
    }


def _differences(arm: Sequence[float | None], baseline: Sequence[float | None]) -> list[float] | None:
    found = [
        own - other for own, other in zip(arm, baseline, strict=True) if own is not None and other is not None
    ]
    return found if len(found) == len(arm) else None
