"""Small machines that between them hold every choice, every pair of choices, and the edges of every size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from cllm_lab.model import parts
from cllm_lab.model.config import CHOICES, ModelConfig
from cllm_lab.model.gradient_check import random_point
from cllm_lab.model.transformer import Transformer

TABLES = {"reference": parts.reference, "fast": parts.fast}
DROPOUT_SEED = 5


@dataclass(frozen=True)
class Case:
    """A machine and the shape of its batch; its weights and tokens follow from its name."""

    name: str
    config: ModelConfig
    batch: int = 2
    length: int = 5

    @property
    def dropout_seed(self) -> int | None:
        return DROPOUT_SEED if self.config.dropout else None

    def tokens_and_targets(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        ids = rng.integers(0, self.config.vocab_size, (2, self.batch, self.length))
        return ids[0], ids[1]

    def model(self, table: str = "reference", dtype: str = "float64") -> Transformer:
        """The machine at a random point, so that no gain is 1 and no bias 0."""
        model = Transformer(self.config, seed=1, dtype=dtype, parts=TABLES[table])
        # The point is drawn in float64 for either dtype: float32 then has the rounded numbers.
        model.params.flat[:] = random_point(model.astype("float64").params, seed=2).flat
        return model

    def masks(self) -> dict[str, np.ndarray]:
        """The dropout masks that the reference machine draws, by the name of their site."""
        activations = self.model().forward(self.tokens_and_targets()[0], self.dropout_seed)
        return {
            name.removesuffix(".mask"): activations[name] for name in activations if name.endswith(".mask")
        }


def _case(name: str, batch: int = 2, length: int = 5, **settings: object) -> Case:
    defaults = {"vocab_size": 11, "context_length": 5, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 12}
    return Case(name, ModelConfig(**{**defaults, **settings}), batch, length)


# What a machine can take from the lattice, each alone.
LATTICE = {
    "shared-keys": {"keys": "shared"},
    "turned-keys": {"keys": "turned"},
    "historical-keys": {"keys": "historical"},
    "rotated-keys": {"keys": "rotated"},
    "cyclic-symmetry": {"head_symmetry": "cyclic"},
    "historical-symmetry": {"head_symmetry": "historical"},
    "distance-bias": {"attention_bias": "lattice-distance"},
    "prime-distance-bias": {"attention_bias": "prime-distance"},
    "phase-bias": {"attention_bias": "phase"},
    "similarity-bias": {"attention_bias": "similarity", "token_primes": "growth"},
    "resonance": {"attention_bias": "resonance"},
    "fixed-bias": {"attention_bias": "phase", "bias_learnable": False, "bias_strength": -0.7},
    "fixed-resonance": {"attention_bias": "resonance", "bias_learnable": False},
    "lattice-positions": {"positions": "lattice"},
    "lattice-embedding": {"embedding_init": "lattice"},
    "spiral-embedding": {"embedding_init": "spiral", "token_places": "random"},
}


def covering(fields: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Settings that between them hold every pair of choices that can stand together; greedy, so not the fewest."""
    rng = np.random.default_rng(seed)

    def drawn() -> dict[str, Any]:
        settings = {field: choices[rng.integers(len(choices))] for field, choices in fields.items()}
        if settings["attention"] == "none":
            settings |= {field: CHOICES[field][0] for field in ("keys", "head_symmetry", "attention_bias")}
        return settings

    def pairs(settings: dict[str, Any]) -> set[tuple]:
        return set(combinations(sorted(settings.items()), 2))

    possible = [drawn() for _ in range(4000)]
    missing = set().union(*(pairs(settings) for settings in possible))
    while missing:
        best = max(possible, key=lambda settings: len(pairs(settings) & missing))
        missing -= pairs(best)
        yield best


PAIRED = {field: CHOICES[field] for field in CHOICES if field not in ("init", "embedding_init")} | {
    "tied": (True, False),
    "dropout": (0.0, 0.3),
}

CASES = (
    _case("default"),
    _case("post-norm", norm="post"),
    _case("untied", tied=False),
    _case("gelu", activation="gelu"),
    _case("sinusoidal", positions="sinusoidal"),
    _case("no-positions", positions="none"),
    _case("no-attention", attention="none"),
    _case("post-untied-gelu-sinusoidal", norm="post", tied=False, activation="gelu", positions="sinusoidal"),
    _case("post-gelu-no-positions", norm="post", activation="gelu", positions="none"),
    _case("post-no-attention-sinusoidal", norm="post", attention="none", positions="sinusoidal"),
    _case("no-attention-no-positions-untied", attention="none", positions="none", tied=False),
    _case("no-attention-gelu", attention="none", activation="gelu"),
    _case("dropout", dropout=0.3),
    _case(
        "dropout-post-gelu-untied", dropout=0.5, norm="post", activation="gelu", tied=False, positions="none"
    ),
    _case("dropout-no-attention-sinusoidal", dropout=0.2, attention="none", positions="sinusoidal"),
    _case("three-layers", n_layers=3),
    _case("one-layer", n_layers=1),
    _case("one-head", n_layers=1, n_heads=1),
    _case("heads-of-width-one", n_layers=1, n_heads=8),
    _case("odd-width-three-heads", n_layers=1, d_model=9, n_heads=3),
    _case("odd-d-ff", n_layers=1, d_ff=7),
    _case("one-hidden-unit", n_layers=1, d_ff=1),
    _case("default-d-ff", n_layers=1, d_ff=None),
    _case("one-position", n_layers=1, length=1, context_length=1),
    _case("window-shorter-than-context", n_layers=1, length=3, context_length=9),
    _case("one-sequence", n_layers=1, batch=1),
    _case("one-token", n_layers=1, batch=1, length=1),
    _case("two-words", n_layers=1, vocab_size=2),
    _case("vocabulary-larger-than-batch", n_layers=1, vocab_size=40),
    _case("large-epsilon", n_layers=1, norm_epsilon=0.1),
    _case("he", n_layers=1, init="he"),
    _case("normal", n_layers=1, init="normal", init_value=0.3),
    _case("constant", n_layers=1, init="constant"),
    _case("zeros", n_layers=1, init="zeros"),
    *(_case(name, **settings) for name, settings in LATTICE.items()),
    *(_case(f"pairs-{number}", **settings) for number, settings in enumerate(covering(PAIRED, seed=0))),
)
NAMES = [case.name for case in CASES]
# Those of the standard machine, with nothing from the lattice.
PLAIN_CASES = [
    case
    for case in CASES
    if case.config.positions != "lattice"
    and all(
        getattr(case.config, field) == CHOICES[field][0]
        for field in ("keys", "head_symmetry", "attention_bias", "embedding_init")
    )
]


@cache
def by_name(name: str) -> Case:
    """The case of a name."""
    return next(case for case in CASES if case.name == name)
