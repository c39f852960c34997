"""From the runs of a comparison to what it found: rows, controls, curves, in JSON's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from cllm_lab.provenance import provenance
from cllm_lab.trials import comparison
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
    equal_steps = comparison.family({key: comparison.at_equal_steps(*pairs[key]) for key in places})
    equal_time = {
        kind: comparison.family(
            {
                key: comparison.at_equal_time(*pairs[key], plan.steps, ratios[key][kind]["ratio"])
                for key in places
            }
        )
        for kind in ("parts", "as_run")
    }
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


def _controls(plan: Plan, runs: Mapping[tuple[str, str], list[Plain]]) -> list[Plain]:
    keys = [
        (corpus, controlled, arm.name)
        for corpus in plan.benches
        for arm in plan.arms
        for controlled in arm.controls
    ]
    found = comparison.family(
        {key: comparison.at_equal_steps(runs[key[0], key[1]], runs[key[0], key[2]]) for key in keys}
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
        "pairs": len(runs),
        "diverged": sum(result["diverged"] is not None for result in runs),
        "learning_rate": tuned["learning_rate"],
        "rate_at_edge": tuned["edge"],
        "parameters": one.parameters,
        "d_ff": one.model.width_ff,
    }


def _mean_curve(runs: Sequence[Plain]) -> list[list[float]]:
    curves = [result["validation"] for result in runs]
    return mean_curve(curves, CURVE_POINTS) if all(curves) else []


def _nested(plan: Plan, value: Callable[[tuple[str, str]], Any]) -> dict[str, dict[str, Any]]:
    return {
        corpus: {name: value((corpus, name)) for name in bench.machines}
        for corpus, bench in plan.benches.items()
    }


def _prefixed(prefix: str, figures: Plain) -> Plain:
    return {f"{prefix}{name}": value for name, value in figures.items()}
