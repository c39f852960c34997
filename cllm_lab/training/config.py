"""How a machine is trained: every setting of an optimizer step and of the order of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cllm_lab.model.config import ConfigError, require_choice, require_count
from cllm_lab.streams import check_seed

OPTIMIZERS = ("sgd", "momentum", "adam", "adam-epsilon-hat", "adamw")
SCHEDULES = ("constant", "cosine", "step")
ADAMW_WEIGHT_DECAY = 0.01
# Of the lattice; each has its weight in the field <name>_penalty.
PENALTIES = ("geometric", "symmetry", "prime", "gcd")
_OPTIONAL = ("total_steps", "validate_every")

_Range = tuple[str, Callable[[float], bool]]
_AT_LEAST_0: _Range = ("of at least 0", lambda number: number >= 0.0)
_ABOVE_0: _Range = ("above 0", lambda number: number > 0.0)
_SHARE: _Range = ("of at least 0 and below 1", lambda number: 0.0 <= number < 1.0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    ``batch_size`` windows of ``sequence_length`` tokens make a batch; ``accumulate`` batches make a step, the
    gradient being the mean over all their tokens. ``clip_norm`` bounds the global gradient norm (None: no
    clipping). ``schedule``, ``warmup_steps``, ``min_learning_rate`` and ``total_steps``: see
    `cllm_lab.training.schedules`. ``momentum`` belongs to "momentum"; ``betas`` and ``epsilon`` to the Adam
    kinds; ``weight_decay`` to "adamw" alone (0.01 there where it is None).
    ``validation_fraction``: the last share of the corpus, never trained on; its loss is taken every
    ``validate_every`` steps, at the end of each epoch where that is None.
    ``geometric_penalty``, ``symmetry_penalty``, ``prime_penalty``, ``gcd_penalty``: weights of what
    `cllm_lab.training.penalties` adds to the loss that is followed and reported; a validation loss has none of it.

    Raises ConfigError, naming the field, for anything that cannot work.
    """

    batch_size: int = 4
    sequence_length: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    clip_norm: float | None = 1.0
    schedule: str = "constant"
    warmup_steps: int = 0
    min_learning_rate: float = 0.0
    total_steps: int | None = None
    validation_fraction: float = 0.0
    validate_every: int | None = None
    shuffle: bool = True
    seed: int = 0
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float | None = None
    accumulate: int = 1
    geometric_penalty: float = 0.0
    symmetry_penalty: float = 0.0
    prime_penalty: float = 0.0
    gcd_penalty: float = 0.0

    def __post_init__(self) -> None:
        for field in ("batch_size", "sequence_length", "accumulate", "total_steps", "validate_every"):
            if field not in _OPTIONAL or getattr(self, field) is not None:
                object.__setattr__(self, field, require_count(field, getattr(self, field)))
        for field in ("warmup_steps", "seed"):
            object.__setattr__(self, field, require_count(field, getattr(self, field), 0))
        try:
            check_seed(self.seed)
        except ValueError as too_large:
            raise ConfigError(str(too_large)) from too_large
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("schedule", self.schedule, SCHEDULES)
        _require_number("learning_rate", self.learning_rate, _AT_LEAST_0)
        _require_number("min_learning_rate", self.min_learning_rate, _AT_LEAST_0)
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"min_learning_rate={self.min_learning_rate} is above learning_rate={self.learning_rate}"
            )
        if self.clip_norm is not None:
            _require_number("clip_norm", self.clip_norm, _ABOVE_0, ", or None for no clipping")
        _require_number("validation_fraction", self.validation_fraction, _SHARE)
        if not isinstance(self.shuffle, bool):
            raise ConfigError(f"shuffle must be True or False; got {self.shuffle!r}")
        _require_number("momentum", self.momentum, _SHARE)
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ConfigError(f"betas must be two numbers; got {self.betas!r}")
        object.__setattr__(self, "betas", tuple(self.betas))
        for beta in self.betas:
            _require_number("betas", beta, _SHARE)
        _require_number("epsilon", self.epsilon, _ABOVE_0)
        if self.weight_decay is not None:
            if self.optimizer != "adamw":
                raise ConfigError(
                    f"weight_decay={self.weight_decay} belongs to optimizer='adamw'; got {self.optimizer!r}"
                )
            _require_number("weight_decay", self.weight_decay, _AT_LEAST_0)
        for name in PENALTIES:
            _require_number(f"{name}_penalty", getattr(self, f"{name}_penalty"), _AT_LEAST_0)
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} must be below total_steps={self.total_steps}"
            )

    @property
    def decay(self) -> float:
        """Weight decay with the default of "adamw" resolved."""
        return ADAMW_WEIGHT_DECAY if self.weight_decay is None else self.weight_decay

    @property
    def penalty_weights(self) -> dict[str, float]:
        """The weights above 0, by the names of `PENALTIES`."""
        weights = {name: getattr(self, f"{name}_penalty") for name in PENALTIES}
        return {name: weight for name, weight in weights.items() if weight > 0.0}


def _require_number(field: str, value: object, allowed: _Range, alternative: str = "") -> None:
    wanted, holds = allowed
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and holds(value):
            return
    raise ConfigError(f"{field} must be a finite number {wanted}{alternative}; got {value!r}")
