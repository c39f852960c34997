"""What a machine is: every choice that fixes the shape and the healthy parts of a transformer."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from cllm_lab.streams import check_seed

CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("pre", "post"),
    "attention": ("multi-head", "none"),
    "positions": ("learned", "sinusoidal", "lattice", "none"),
    "activation": ("tanh", "gelu"),
    "init": ("xavier", "he", "normal", "zeros", "constant"),
    "keys": ("projected", "shared", "turned", "historical", "rotated"),
    "head_symmetry": ("none", "cyclic", "historical"),
    "attention_bias": (
        "none", "lattice-distance", "prime-distance", "phase", "similarity", "resonance"
    ),
    "embedding_init": ("as-init", "lattice", "spiral"),
    "token_primes": ("nth", "growth", "cached", "shuffled"),
    "token_places": ("spiral", "shuffled", "random"),
}  # fmt: skip
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

    From the lattice (`cllm_lab.lattice`), all off by default; see `cllm_lab.model.parts.lattice_parts`:
    ``keys``: made by a projection of their own, or from the queries, as they are ("shared"), by the original's turn
    alone ("turned") or with all of its steps ("historical"), or by a rotation; all but "projected" leave out the keys'
    third of w_qkv. ``head_symmetry``: operations of order 12 on the queries and keys of each head. ``attention_bias``:
    what the scores of two tokens get added, times a strength for each head, which starts at ``bias_strength`` (1 where
    it is None) and is a parameter where ``bias_learnable``. ``positions`` "lattice": the lattice embedding of the
    position. ``embedding_init``: the token embedding's first rows, of the size that ``init`` gives them.
    ``token_primes``, ``token_places``, ``lattice_seed``: the prime and place of each token; "shuffled" and "random" are
    controls, drawn from the seed.

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
    keys: str = "projected"
    head_symmetry: str = "none"
    attention_bias: str = "none"
    bias_strength: float | None = None
    bias_learnable: bool = True
    embedding_init: str = "as-init"
    token_primes: str = "nth"
    token_places: str = "spiral"
    lattice_seed: int = 0

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
        for field in ("tied", "bias_learnable"):
            if not isinstance(getattr(self, field), bool):
                raise ConfigError(f"{field} must be True or False; got {getattr(self, field)!r}")
        if not 0.0 <= require_number("dropout", self.dropout) < 1.0:
            raise ConfigError(f"dropout must be at least 0 and below 1; got {self.dropout!r}")
        if not require_number("norm_epsilon", self.norm_epsilon) > 0.0:
            raise ConfigError(f"norm_epsilon must be above 0; got {self.norm_epsilon!r}")
        if self.init_value is not None:
            self._check_init_value(self.init_value)
        self._check_lattice()

    def _check_lattice(self) -> None:
        for field, choice in (
            ("keys", "rotated"),
            ("head_symmetry", "cyclic"),
            ("head_symmetry", "historical"),
        ):
            if getattr(self, field) == choice and self.d_head % 2:
                raise ConfigError(
                    f"{field}={choice!r} turns the dimensions of a head in pairs, so d_model / n_heads must be even; "
                    f"got {self.d_model} / {self.n_heads} = {self.d_head}"
                )
        if self.keys == "historical" and self.d_head < 3:
            raise ConfigError(
                f"keys='historical' adds three coordinates to a head's first three dimensions; "
                f"got d_model / n_heads = {self.d_model} / {self.n_heads} = {self.d_head}"
            )
        if self.bias_strength is not None:
            require_number("bias_strength", self.bias_strength)
        for field, default in (("bias_strength", None), ("bias_learnable", True)):
            given = getattr(self, field)
            if self.attention_bias == "none" and given is not default:
                raise ConfigError(f"{field}={given!r} has no meaning for attention_bias='none'")
        if self.attention == "none":
            for field in ("keys", "head_symmetry", "attention_bias"):
                if getattr(self, field) != CHOICES[field][0]:
                    raise ConfigError(f"{field}={getattr(self, field)!r} has no meaning for attention='none'")
        object.__setattr__(self, "lattice_seed", require_count("lattice_seed", self.lattice_seed, 0))
        try:
            check_seed(self.lattice_seed, "lattice_seed")
        except ValueError as too_large:
            raise ConfigError(str(too_large)) from too_large

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

    @property
    def first_bias_strength(self) -> float:
        """What every strength starts at, with ``bias_strength=None`` resolved."""
        return 1.0 if self.bias_strength is None else self.bias_strength

    @property
    def has_strengths(self) -> bool:
        """Whether the strengths of the attention's bias are parameters."""
        return self.attention_bias != "none" and self.bias_learnable

    @property
    def qkv_width(self) -> int:
        """Columns of w_qkv: 3 C, and 2 C where the keys are made from the queries."""
        return (3 if self.keys == "projected" else 2) * self.d_model


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
