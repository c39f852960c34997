"""An arm of a comparison: what it changes in the baseline, and the machine that this makes for a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.parameters import layout
from cllm_lab.training.config import TrainConfig

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """One machine of a comparison: the settings in which it differs from the others' common ones.

    ``model``, ``train``: fields of `ModelConfig` and `TrainConfig`. ``control_of``: the arm, or arms, whose effect this
    one controls: it keeps what is incidental to them and leaves out what they are about. ``seeded``: fields of
    `ModelConfig` that take the seed of the pair, for what is drawn at random and should be drawn anew in each. Of both,
    a single name may be given as it is.
    ``words``: what it is, in a line.
    """

    name: str
    model: Settings = field(default_factory=dict)
    train: Settings = field(default_factory=dict)
    control_of: Sequence[str] = ()
    seeded: Sequence[str] = ()
    words: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"an arm's name must be a text that is not empty; got {self.name!r}")
        for part in ("model", "train"):
            if not isinstance(getattr(self, part), Mapping):
                raise ConfigError(
                    f"arm {self.name!r}: {part} must map fields to values; got {getattr(self, part)!r}"
                )
            object.__setattr__(self, part, dict(getattr(self, part)))
        for part in ("control_of", "seeded"):
            value = getattr(self, part)
            object.__setattr__(self, part, (value,) if isinstance(value, str) else tuple(value))


def machine(arm: Arm, vocab_size: int, model: Settings, train: Settings) -> tuple[ModelConfig, TrainConfig]:
    """The arm's configurations: the common settings, and over them its own.

    Raises ConfigError, naming the arm, for fields that do not exist and settings that cannot work.
    """
    wanted = {"vocab_size": vocab_size, **model, **arm.model}
    _require_fields(arm, ModelConfig, (*wanted, *arm.seeded))
    settings = {**train, **arm.train}
    _require_fields(arm, TrainConfig, settings)
    try:
        return ModelConfig(**wanted), TrainConfig(**settings)
    except ConfigError as error:
        raise ConfigError(f"arm {arm.name!r}: {error}") from error


def parameter_count(config: ModelConfig) -> int:
    """Trainable numbers of a machine."""
    return sum(spec.size for spec in layout(config))


def equal_parameters(config: ModelConfig, baseline: ModelConfig) -> ModelConfig:
    """The same machine with the d_ff whose parameter count is nearest the baseline's (the smaller of two as near).

    The count is linear in d_ff, one unit of which costs L (2 C + 1) numbers.
    Raises ConfigError where even d_ff=1 leaves more than twice the baseline's parameters.
    """
    one, two = (parameter_count(replace(config, d_ff=width)) for width in (1, 2))
    wanted = parameter_count(baseline)
    if one > 2 * wanted:
        raise ConfigError(
            f"d_ff cannot make up for the rest: with d_ff=1 there are {one} parameters, the baseline has {wanted}; "
            "compare it with same_parameters=False"
        )
    nearest = max(1, (wanted - one) // (two - one) + 1)
    return min(
        (replace(config, d_ff=width) for width in (nearest, nearest + 1)),
        key=lambda candidate: abs(parameter_count(candidate) - wanted),
    )


def require_arms(arms: Sequence[Arm], baseline: Arm) -> None:
    """TypeError, ConfigError unless the names tell all apart and controls refer to arms that there are."""
    for arm in (baseline, *arms):
        if not isinstance(arm, Arm):
            raise TypeError(f"arms must be Arm; got {type(arm).__name__}")
    names = [baseline.name, *(arm.name for arm in arms)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two arms are called {', '.join(map(repr, twice))}; give each a name of its own")
    for arm in arms:
        for controlled in arm.control_of:
            if controlled == arm.name or controlled not in names[1:]:
                others = ", ".join(repr(name) for name in names[1:] if name != arm.name)
                raise ConfigError(
                    f"arm {arm.name!r} controls {controlled!r}, which is no other arm here; there is {others}"
                )


def _require_fields(arm: Arm, kind: type, given: Iterable[str]) -> None:
    known = [entry.name for entry in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(
            f"arm {arm.name!r}: {kind.__name__} has no field {', '.join(unknown)}; it has {', '.join(known)}"
        )
