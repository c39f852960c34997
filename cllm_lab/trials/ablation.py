"""The paired comparison of machines: tuned alike, run on the same seeds, held against the baseline three ways."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cllm_lab.corpus.source import TokenSource
from cllm_lab.trials import cost
from cllm_lab.trials.arm import Arm, Settings
from cllm_lab.trials.assembly import assemble
from cllm_lab.trials.backends import Workers, require_backend, workers
from cllm_lab.trials.cost import cost_ratios
from cllm_lab.trials.plan import Bench, Plan, make_plan
from cllm_lab.trials.result import Ablation
from cllm_lab.trials.run import Plain, digest, run
from cllm_lab.trials.store import Store
from cllm_lab.trials.tuning import best_rate

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
REPORT_SECONDS = 30.0

Report = Callable[[str], object]
Costs = Callable[[Mapping[str, Mapping[str, Any]], str], Plain]


def ablate(
    corpora: TokenSource | Mapping[str, TokenSource],
    arms: Sequence[Arm],
    *,
    baseline: Arm | None = None,
    model: Settings | None = None,
    train: Settings | None = None,
    corpus_train: Mapping[str, Settings] | None = None,
    steps: int = 400,
    validate_every: int | Mapping[str, int] = 20,
    seeds: int | Sequence[int] = 10,
    learning_rates: Sequence[float] = LEARNING_RATES,
    tuning_seeds: int | Sequence[int] = 2,
    same_parameters: bool = True,
    backend: str = "loky",
    scheduler: str | None = None,
    n_jobs: int = -1,
    folder: str | os.PathLike[str] | None = None,
    report: Report = print,
    costs: Costs = cost_ratios,
) -> Ablation:
    """Compares arms with a baseline on every corpus.

    ``model``, ``train``: settings common to all machines; ``corpus_train``: further settings for a corpus by name.
    Each arm, and the baseline like any other, takes the rate of ``learning_rates`` with the lowest mean loss over
    ``tuning_seeds``; then all are trained for ``steps`` steps on the same ``seeds``, which are others. A seed fixes the
    initial weights and the order of the data; weights of another shape, as another d_ff brings them, are other ones.
    ``same_parameters``: every machine gets the d_ff that brings its parameter count nearest the baseline's. What counts
    is the lowest validation loss within the steps, in nats, validated at step 0 and every ``validate_every``, which may
    be a number for each corpus; ``train`` must leave a ``validation_fraction`` (0.1 by default). The intervals are over
    seeds, on this corpus and this part of it held out, from which the learning rate was taken too.

    Runs go to ``backend`` (`cllm_lab.trials.backends.workers`): the table is the same from all, but for what depends on
    time, which ``costs`` measures in this process beforehand. With ``folder`` each result is kept there as it comes,
    and what is there already is not run again. ``report`` is told what is done.
    A run that ceases to be finite counts with the lowest loss that it had, and is said.

    Raises ConfigError for settings that cannot work, CorpusError for a corpus that cannot be split, BackendError for
    workers that are not to be had, all before anything runs; ValueError where the baseline is not finite before its
    first step.
    """
    plan = make_plan(
        corpora, arms, baseline, model, train, corpus_train, steps, validate_every, seeds, learning_rates,
        tuning_seeds, same_parameters,
    )  # fmt: skip
    require_backend(backend, scheduler, n_jobs)
    store = None if folder is None else Store(folder, report)
    with workers(backend, scheduler, n_jobs) as hands:
        prices = {name: _priced(bench, plan, costs, store) for name, bench in plan.benches.items()}
        report(_estimate(plan, prices, hands.count))
        tuned = _tune(plan, hands, store, report)
        runs = _compare(plan, tuned, hands, store, report)
    return assemble(plan, prices, tuned, runs)


def _priced(bench: Bench, plan: Plan, costs: Costs, store: Store | None) -> Plain:
    described = {
        name: plan.describe(bench, name, plan.rates[0], plan.tuning_seeds[0]) for name in bench.machines
    }
    if store is None or costs is not cost_ratios:
        return costs(described, plan.baseline)
    key = {
        "corpus": bench.corpus,
        "cost": {name: digest(one) for name, one in described.items()},
        "measured_by": hashlib.sha256(Path(cost.__file__).read_bytes()).hexdigest(),
    }
    found = store.get(key)
    if found is None:
        found = costs(described, plan.baseline)
        store.put(key, found)
    return found


def _estimate(plan: Plan, prices: Mapping[str, Plain], count: int) -> str:
    per_machine = len(plan.rates) * len(plan.tuning_seeds) + len(plan.seeds)
    seconds = sum(
        per_machine
        * (
            plan.steps * price["seconds"]
            + (plan.steps // bench.validate_every + 1) * prices[name]["validation_seconds"]
        )
        for name, bench in plan.benches.items()
        for price in prices[name]["machines"].values()
    )
    runs = per_machine * sum(len(bench.machines) for bench in plan.benches.values())
    return (
        f"{runs} runs of {plan.steps} steps: some {seconds / 60:.0f} minutes of one core, "
        f"{seconds / 60 / count:.0f} with {count} workers, less what is stored"
    )


def _tune(plan: Plan, hands: Workers, store: Store | None, report: Report) -> dict[tuple[str, str], Plain]:
    wanted = {
        (corpus, name, rate, seed): plan.describe(bench, name, rate, seed)
        for corpus, bench in plan.benches.items()
        for name in bench.machines
        for rate in plan.rates
        for seed in plan.tuning_seeds
    }
    results = _results("learning rates", wanted, hands, store, report)
    tuned = {}
    for corpus, bench in plan.benches.items():
        for name in bench.machines:
            tuned[corpus, name] = best_rate(
                {
                    rate: [results[corpus, name, rate, seed] for seed in plan.tuning_seeds]
                    for rate in plan.rates
                }
            )
    at_edge = sum(found["edge"] is not None for found in tuned.values())
    if at_edge:
        report(f"the best learning rate lies at an edge of the grid for {at_edge} of {len(tuned)} machines")
    return tuned


def _compare(
    plan: Plan, tuned: Mapping[tuple[str, str], Plain], hands: Workers, store: Store | None, report: Report
) -> dict[tuple[str, str], list[Plain]]:
    wanted = {
        (corpus, name, seed): plan.describe(bench, name, tuned[corpus, name]["learning_rate"], seed)
        for seed in plan.seeds
        for corpus, bench in plan.benches.items()
        for name in bench.machines
    }
    results = _results("paired runs", wanted, hands, store, report)
    return {
        (corpus, name): [results[corpus, name, seed] for seed in plan.seeds]
        for corpus, bench in plan.benches.items()
        for name in bench.machines
    }


def _results(
    label: str, wanted: Mapping[Any, Plain], hands: Workers, store: Store | None, report: Report
) -> dict[Any, Plain]:
    """The result of every description, stored ones first, the others from the workers; equal ones are run once."""
    names = {key: digest(description) for key, description in wanted.items()}
    unique = {names[key]: description for key, description in wanted.items()}
    found: dict[str, Plain] = {}
    if store is not None:
        for name, description in unique.items():
            result = store.get(description)
            if result is not None:
                found[name] = result
    missing = [name for name in unique if name not in found]
    report(f"{label}: {len(unique)} runs, {len(found)} of them stored")
    began = reported = time.perf_counter()
    arriving: Iterator[tuple[int, Plain]] = hands.each(run, [unique[name] for name in missing])
    for done, (place, result) in enumerate(arriving, start=1):
        name = missing[place]
        if store is not None:
            store.put(unique[name], result)
        found[name] = result
        now = time.perf_counter()
        if now - reported >= REPORT_SECONDS:
            reported, minutes = now, (now - began) / 60
            left = minutes / done * (len(missing) - done)
            report(f"{label}: {done} of {len(missing)} in {minutes:.1f} minutes, some {left:.1f} to go")
    for key, name in names.items():
        diverged = found[name]["diverged"]
        if diverged is not None:
            report(f"{label}: {key} diverged at step {diverged['step']}: {diverged['what']}")
    return {key: found[name] for key, name in names.items()}
