"""What a comparison will run, checked before anything does: machines, corpora, seeds, rates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ConfigError, ModelConfig, require_count
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.penalties import require_pairs_to_turn
from cllm_lab.trials import comparison
from cllm_lab.trials.arm import Arm, Settings, equal_parameters, machine, parameter_count, require_arms
from cllm_lab.trials.run import Plain, source, task
from cllm_lab.trials.statistics import ALPHA, POWER
from cllm_lab.trials.tuning import require_rates

TRAIN = {"validation_fraction": 0.1}
# Seeds of the tuning are counted from here, those of the comparison from 0.
FIRST_TUNING_SEED = 1_000_000
# Fields of `TrainConfig` that every run gets from the comparison, and the argument of `ablate` that says which.
SET_BY_THE_COMPARISON = {
    "learning_rate": "learning_rates",
    "seed": "seeds",
    "validate_every": "validate_every",
}


@dataclass(frozen=True)
class Machine:
    """One arm as it is on one corpus: ``train`` without its tuned rate, ``parameters`` how many."""

    arm: Arm
    model: ModelConfig
    train: TrainConfig
    parameters: int

    def at_seed(self, seed: int) -> ModelConfig:
        """The configuration with what is drawn anew for each pair."""
        drawn: dict[str, Any] = dict.fromkeys(self.arm.seeded, seed)
        return replace(self.model, **drawn)


@dataclass(frozen=True)
class Bench:
    """A corpus, how often it is validated on, and every machine as it is there, the baseline first.

    ``held_out``: how many targets the validation loss is the mean over.
    """

    corpus: Plain
    validate_every: int
    held_out: int
    machines: Mapping[str, Machine]


@dataclass(frozen=True)
class Plan:
    """Everything that a comparison runs. ``settings`` say the same in JSON's types, for its result."""

    benches: Mapping[str, Bench]
    arms: tuple[Arm, ...]
    baseline: str
    steps: int
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    rates: tuple[float, ...]
    settings: Plain = field(default_factory=dict)

    def describe(self, bench: Bench, name: str, rate: float, seed: int) -> Plain:
        """The run of the named machine of a corpus with a learning rate and a seed, as `run` wants it."""
        one = bench.machines[name]
        train = replace(one.train, learning_rate=rate)
        return task(bench.corpus, one.at_seed(seed), train, self.steps, bench.validate_every, seed, seed)


def make_plan(
    corpora: TokenSource | Mapping[str, TokenSource],
    arms: Sequence[Arm],
    baseline: Arm | None,
    model: Settings | None,
    train: Settings | None,
    corpus_train: Mapping[str, Settings] | None,
    steps: int,
    validate_every: int | Mapping[str, int],
    seeds: int | Sequence[int],
    learning_rates: Sequence[float],
    tuning_seeds: int | Sequence[int],
    same_parameters: bool,
) -> Plan:
    """The plan of `cllm_lab.trials.ablation.ablate` with these arguments, and its errors."""
    baseline = baseline or Arm("baseline")
    require_arms(arms, baseline)
    named = corpora if isinstance(corpora, Mapping) else {"corpus": corpora}
    further = dict(corpus_train or {})
    if not named or not set(further) <= set(named):
        raise ConfigError(
            f"corpora must name one or more, corpus_train only those; got {list(named)}, {list(further)}"
        )
    chosen, tuning = _seeds("seeds", seeds, 2, 0), _seeds("tuning_seeds", tuning_seeds, 1, FIRST_TUNING_SEED)
    if set(chosen) & set(tuning):
        raise ConfigError(
            f"tuning_seeds must be other seeds than those compared; got {sorted(set(chosen) & set(tuning))}"
        )
    rates = require_rates(learning_rates)
    if not isinstance(validate_every, Mapping):
        validate_every = dict.fromkeys(named, validate_every)
    if set(validate_every) != set(named):
        raise ConfigError(
            f"validate_every must be a number of steps, or one for each of {list(named)}; got {dict(validate_every)}"
        )
    every = {name: require_count("validate_every", count) for name, count in validate_every.items()}
    steps = require_count("steps", steps)
    benches = {}
    for name, corpus in named.items():
        common = {**TRAIN, **(train or {}), **further.get(name, {})}
        machines = _machines(corpus, (baseline, *arms), model or {}, common, same_parameters)
        held_out = corpus.validation_tokens(machines[baseline.name].train.validation_fraction)
        benches[name] = Bench(source(corpus), every[name], len(held_out) - 1, machines)
    plan = Plan(
        benches,
        tuple(arms),
        baseline.name,
        steps,
        chosen,
        tuning,
        rates,
        _plain(
            {
                "corpora": {
                    name: {key: value for key, value in bench.corpus.items() if key != "text"}
                    for name, bench in benches.items()
                },
                "arms": [asdict(arm) for arm in (baseline, *arms)],
                "model": dict(model or {}),
                "train": {**TRAIN, **(train or {})},
                "corpus_train": {name: dict(settings) for name, settings in further.items()},
                "steps": steps,
                "validate_every": every,
                "seeds": list(chosen),
                "tuning_seeds": list(tuning),
                "learning_rates": list(rates),
                "same_parameters": same_parameters,
                "level_share": comparison.LEVEL_SHARE,
                "alpha": ALPHA,
                "power": POWER,
            }
        ),
    )
    for bench in benches.values():  # what cannot be described is refused before anything runs
        for name in bench.machines:
            plan.describe(bench, name, rates[0], chosen[0])
    return plan


def _machines(
    corpus: TokenSource, arms: Sequence[Arm], model: Settings, train: Settings, same_parameters: bool
) -> dict[str, Machine]:
    made: dict[str, Machine] = {}
    first: ModelConfig | None = None
    for arm in arms:
        _require_free(arm, model, train, same_parameters)
        config, training = machine(arm, corpus.vocab_size, model, train)
        corpus.validation_tokens(training.validation_fraction)
        if training.sequence_length > config.context_length:
            raise ConfigError(
                f"arm {arm.name!r}: sequence_length={training.sequence_length} is above "
                f"context_length={config.context_length}"
            )
        first = first or config
        try:
            if same_parameters and config != first:
                config = equal_parameters(config, first)
            require_pairs_to_turn(config, training.symmetry_penalty)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from error
        made[arm.name] = Machine(arm, config, training, parameter_count(config))
    return made


def _require_free(arm: Arm, model: Settings, train: Settings, same_parameters: bool) -> None:
    """ConfigError for a setting that a comparison gives every run itself, so that it would go unheard."""
    for given in (train, arm.train):
        for name, argument in SET_BY_THE_COMPARISON.items():
            if name in given:
                raise ConfigError(
                    f"arm {arm.name!r}: {name}={given[name]!r} is set by the comparison; give it {argument}"
                )
    if same_parameters and "d_ff" in arm.model:
        raise ConfigError(
            f"arm {arm.name!r}: d_ff={arm.model['d_ff']!r} is set so that all machines have as many parameters; "
            "give same_parameters=False"
        )


def _plain(settings: Plain) -> Plain:
    """As JSON gives it back. Raises ConfigError for a value that JSON has no word for."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings must be plain numbers, texts and lists of them: {error}") from error


def _seeds(name: str, given: int | Sequence[int], least: int, first: int) -> tuple[int, ...]:
    if isinstance(given, Sequence):
        seeds = tuple(require_count(name, seed, 0) for seed in given)
    else:
        seeds = tuple(range(first, first + require_count(name, given)))
    if len(seeds) < least or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{name} must be at least {least}, all different; got {given!r}")
    return seeds
