"""From the runs of a comparison to what it found: rows, controls, curves, in JSON's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from cllm_lab.provenance import provenance
from cllm_lab.trials import comparison, curves
from cllm_lab.trials.curves import mean_curve
from cllm_lab.trials.plan import Machine, Plan
from cllm_lab.trials.result import Ablation
from cllm_lab.trials.run import Plain

CURVE_POINTS = 21


def assemble(
    plan: Plan,
    prices: Mapping[str, Plain],
    tuned: Mapping[tuple[str, str], Plain],
    runs: Mapping[tuple[str, str], list[Plain]],
) -> Ablation:
    """The comparison's rows from the costs, rates and runs of every (corpus, arm), the baseline among them.

    Raises ValueError where the baseline is not finite before its first step.
    """
    for corpus in plan.benches:
        if not all(result["validation"] for result in runs[corpus, plan.baseline]):
            raise ValueError(f"the baseline is not finite before its first step on {corpus!r}")
    places = [(corpus, arm.name) for corpus in plan.benches for arm in plan.arms]
    pairs = {key: (runs[key], runs[key[0], plan.baseline]) for key in places}
    ratios = {(corpus, arm): prices[corpus]["machines"][arm] for corpus, arm in places}
    identical = {key for key in places if comparison.are_identical(*pairs[key])}
    equal_steps = comparison.family(
        {key: comparison.at_equal_steps(*pairs[key]) for key in places}, identical
    )
    equal_time = {kind: _at_equal_time(plan, pairs, ratios, kind, identical) for kind in ("parts", "as_run")}
    words = {arm.name: arm.words for arm in plan.arms}
    rows = [
        {
            "corpus": key[0],
            "arm": key[1],
            "words": words[key[1]],
            **equal_steps[key],
            **_prefixed("time_", equal_time["parts"][key]),
            **_prefixed("as_run_", equal_time["as_run"][key]),
            "cost": ratios[key]["parts"]["ratio"],
            "cost_as_run": ratios[key]["as_run"]["ratio"],
            **comparison.steps_ratio(*pairs[key]),
            **comparison.strengths(runs[key]),
            **_facts(plan.benches[key[0]].machines[key[1]], tuned[key], runs[key]),
            "parameters_baseline": plan.benches[key[0]].machines[plan.baseline].parameters,
        }
        for key in places
    ]
    baselines = [
        {
            "corpus": corpus,
            **_facts(
                bench.machines[plan.baseline], tuned[corpus, plan.baseline], runs[corpus, plan.baseline]
            ),
            "level": comparison.level(runs[corpus, plan.baseline]),
            "held_out": bench.held_out,
        }
        for corpus, bench in plan.benches.items()
    ]
    return Ablation(
        {
            **provenance(),
            "settings": plan.settings,
            "rows": rows,
            "controls": _controls(plan, runs),
            "baselines": baselines,
            "costs": dict(prices),
            "tuning": _nested(plan, lambda key: tuned[key]),
            "lowest": _nested(plan, lambda key: [comparison.lowest_or_none(one) for one in runs[key]]),
            "curves": _nested(plan, lambda key: _mean_curve(runs[key])),
        }
    )


def _at_equal_time(
    plan: Plan, pairs: Mapping[Any, Any], ratios: Mapping[Any, Plain], kind: str, identical: set[Any]
) -> dict[Any, Plain]:
    likely = {key: comparison.likely_ratios(ratios[key][kind]) for key in pairs}
    readings = [
        {
            key: comparison.at_equal_time(arm, baseline, plan.steps, likely[key][reading])
            for key, (arm, baseline) in pairs.items()
        }
        for reading in range(3)
    ]
    # A machine that costs more is another one at equal time, however alike its losses are.
    return comparison.at_any_cost(readings, {key for key in identical if set(likely[key]) == {1.0}})


def _controls(plan: Plan, runs: Mapping[tuple[str, str], list[Plain]]) -> list[Plain]:
    keys = [
        (corpus, controlled, arm.name)
        for corpus in plan.benches
        for arm in plan.arms
        for controlled in arm.control_of
    ]
    both = {key: (runs[key[0], key[1]], runs[key[0], key[2]]) for key in keys}
    found = comparison.family(
        {key: comparison.at_equal_steps(*pair) for key, pair in both.items()},
        {key for key, pair in both.items() if comparison.are_identical(*pair)},
    )
    return [
        {"corpus": corpus, "arm": arm, "control": control, **found[corpus, arm, control]}
        for corpus, arm, control in keys
    ]


def _facts(one: Machine, tuned: Plain, runs: Sequence[Plain]) -> Plain:
    losses = [comparison.lowest_or_none(result) for result in runs]
    finite = [loss for loss in losses if loss is not None]
    return {
        "loss": fmean(finite) if len(finite) == len(losses) else None,
        "last_loss": fmean(run["validation"][-1][1] for run in runs) if len(finite) == len(losses) else None,
        "lowest_at": median(curves.lowest_at(run["validation"]) for run in runs)
        if len(finite) == len(losses)
        else None,
        "pairs": len(runs),
        "diverged": sum(result["diverged"] is not None for result in runs),
        "learning_rate": tuned["learning_rate"],
        "rate_at_edge": tuned["edge"],
        "parameters": one.parameters,
        "d_ff": one.model.width_ff,
    }


def _mean_curve(runs: Sequence[Plain]) -> list[list[float]]:
    measured = [result["validation"] for result in runs]
    return mean_curve(measured, CURVE_POINTS) if all(measured) else []


def _nested(plan: Plan, value: Callable[[tuple[str, str]], Any]) -> dict[str, dict[str, Any]]:
    return {
        corpus: {name: value((corpus, name)) for name in bench.machines}
        for corpus, bench in plan.benches.items()
    }


def _prefixed(prefix: str, figures: Plain) -> Plain:
    return {f"{prefix}{name}": value for name, value in figures.items()}
