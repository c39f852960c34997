"""What a machine is: every choice that fixes the shape and the healthy parts of a transformer."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("pre", "post"),
    "attention": ("multi-head", "none"),
    "positions": ("learned", "sinusoidal", "none"),
    "activation": ("tanh", "gelu"),
    "init": ("xavier", "he", "normal", "zeros", "constant"),
}
DEFAULT_INIT_VALUES = {"normal": 0.02, "constant": 0.01}


class ConfigError(ValueError):
    """A setting that cannot work; the text names the field, what was given and what would work."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and choices of a decoder-only transformer (Vaswani et al. 2017; Radford et al. 2019).

    ``vocab_size`` V rows of the embedding; ``context_length`` the longest window T; ``d_model`` C;
    ``n_heads`` H, a divisor of C; ``n_layers`` blocks; ``d_ff`` F, 4 C where it is None.
    ``norm``: layer norm before each sub-layer, with a final norm ("pre"), or after each sum ("post").
    ``attention``: "none" leaves the sub-layer out, the control that shows what attention is worth.
    ``tied``: the output matrix is the token embedding (Press & Wolf 2017).
    ``dropout``: share of activations dropped in training after the embedding and after each sub-layer.
    ``init``: see `cllm_lab.model.initialisers`; ``init_value`` is the standard deviation of "normal" or the
    constant of "constant", and belongs to no other.

    Raises ConfigError, naming the field, for anything that cannot work.
    """

    vocab_size: int
    context_length: int = 32
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    d_ff: int | None = None
    norm: str = "pre"
    attention: str = "multi-head"
    positions: str = "learned"
    activation: str = "tanh"
    tied: bool = True
    dropout: float = 0.0
    init: str = "xavier"
    init_value: float | None = None
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", 4 * require_count("d_model", self.d_model))
        for field, minimum in (
            ("vocab_size", 2),
            ("context_length", 1),
            ("d_model", 1),
            ("n_heads", 1),
            ("n_layers", 1),
            ("d_ff", 1),
        ):
            object.__setattr__(self, field, require_count(field, getattr(self, field), minimum))
        if self.d_model % self.n_heads:
            divisors = [h for h in range(1, self.d_model + 1) if self.d_model % h == 0]
            raise ConfigError(
                f"n_heads={self.n_heads} does not divide d_model={self.d_model}; "
                f"these do: {', '.join(map(str, divisors))}"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ConfigError(
                f"positions='sinusoidal' pairs the dimensions, so d_model must be even; got {self.d_model}"
            )
        for field, allowed in CHOICES.items():
            require_choice(field, getattr(self, field), allowed)
        if not isinstance(self.tied, bool):
            raise ConfigError(f"tied must be True or False; got {self.tied!r}")
        if not 0.0 <= require_number("dropout", self.dropout) < 1.0:
            raise ConfigError(f"dropout must be at least 0 and below 1; got {self.dropout!r}")
        if not require_number("norm_epsilon", self.norm_epsilon) > 0.0:
            raise ConfigError(f"norm_epsilon must be above 0; got {self.norm_epsilon!r}")
        if self.init_value is not None:
            self._check_init_value(self.init_value)

    def _check_init_value(self, value: float) -> None:
        if self.init not in DEFAULT_INIT_VALUES:
            raise ConfigError(
                f"init_value={value!r} has no meaning for init={self.init!r}; "
                f"it belongs to {' and '.join(map(repr, DEFAULT_INIT_VALUES))}"
            )
        if require_number("init_value", value) < 0.0 and self.init == "normal":
            raise ConfigError(
                f"init_value is the standard deviation of 'normal' and must be at least 0; got {value!r}"
            )

    @property
    def d_head(self) -> int:
        """D = C / H."""
        return self.d_model // self.n_heads

    @property
    def width_ff(self) -> int:
        """F, with ``d_ff=None`` resolved."""
        assert self.d_ff is not None
        return self.d_ff


def require_count(field: str, value: object, minimum: int = 1) -> int:
    """The value as an int where it is a whole number of at least ``minimum``; ConfigError otherwise."""
    # NumPy's whole numbers have an index too: a vocabulary counted by NumPy is as good as any.
    whole = not isinstance(value, bool) and hasattr(value, "__index__")
    if not whole or operator.index(value) < minimum:  # type: ignore[arg-type]
        raise ConfigError(f"{field} must be a whole number of at least {minimum}; got {value!r}")
    return operator.index(value)  # type: ignore[arg-type]


def require_number(field: str, value: object) -> float:
    """The value where it is a finite number; ConfigError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{field} must be a finite number; got {value!r}")
    return value


def require_choice(field: str, value: object, allowed: tuple[str, ...]) -> None:
    """ConfigError where the value is none of the allowed names."""
    if value not in allowed:
        raise ConfigError(f"{field} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
