"""What a comparison will run, checked before anything does: machines, corpora, seeds, rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ConfigError, ModelConfig, require_count
from cllm_lab.training.config import TrainConfig
from cllm_lab.trials import comparison
from cllm_lab.trials.arm import Arm, Settings, equal_parameters, machine, parameter_count, require_arms
from cllm_lab.trials.run import Plain, source, task
from cllm_lab.trials.statistics import ALPHA, POWER
from cllm_lab.trials.tuning import require_rates

TRAIN = {"validation_fraction": 0.1}
# Seeds of the tuning are counted from here, those of the comparison from 0.
FIRST_TUNING_SEED = 1_000_000


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
    """A corpus, and every machine as it is there, the baseline first."""

    corpus: Plain
    machines: Mapping[str, Machine]


@dataclass(frozen=True)
class Plan:
    """Everything that a comparison runs. ``settings`` say the same in JSON's types, for its result."""

    benches: Mapping[str, Bench]
    arms: tuple[Arm, ...]
    baseline: str
    steps: int
    validate_every: int
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    rates: tuple[float, ...]
    settings: Plain = field(default_factory=dict)

    def describe(self, bench: Bench, name: str, rate: float, seed: int) -> Plain:
        """The run of the named machine of a corpus with a learning rate and a seed, as `run` wants it."""
        one = bench.machines[name]
        train = replace(one.train, learning_rate=rate)
        return task(bench.corpus, one.at_seed(seed), train, self.steps, self.validate_every, seed, seed)


def make_plan(
    corpora: TokenSource | Mapping[str, TokenSource],
    arms: Sequence[Arm],
    baseline: Arm | None,
    model: Settings | None,
    train: Settings | None,
    corpus_train: Mapping[str, Settings] | None,
    steps: int,
    validate_every: int,
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
    benches = {}
    for name, corpus in named.items():
        common = {**TRAIN, **(train or {}), **further.get(name, {})}
        machines = _machines(corpus, (baseline, *arms), model or {}, common, same_parameters)
        benches[name] = Bench(source(corpus), machines)
    plan = Plan(
        benches,
        tuple(arms),
        baseline.name,
        require_count("steps", steps),
        require_count("validate_every", validate_every),
        chosen,
        tuning,
        rates,
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
            "validate_every": validate_every,
            "seeds": list(chosen),
            "tuning_seeds": list(tuning),
            "learning_rates": list(rates),
            "same_parameters": same_parameters,
            "level_share": comparison.LEVEL_SHARE,
            "alpha": ALPHA,
            "power": POWER,
        },
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
        config, training = machine(arm, corpus.vocab_size, model, train)
        corpus.validation_tokens(training.validation_fraction)
        if training.sequence_length > config.context_length:
            raise ConfigError(
                f"arm {arm.name!r}: sequence_length={training.sequence_length} is above "
                f"context_length={config.context_length}"
            )
        first = first or config
        if same_parameters:
            config = config if config == first else equal_parameters(config, first)
        made[arm.name] = Machine(arm, config, training, parameter_count(config))
    return made


def _seeds(name: str, given: int | Sequence[int], least: int, first: int) -> tuple[int, ...]:
    if isinstance(given, Sequence):
        seeds = tuple(require_count(name, seed, 0) for seed in given)
    else:
        seeds = tuple(range(first, first + require_count(name, given)))
    if len(seeds) < least or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{name} must be at least {least}, all different; got {given!r}")
    return seeds
