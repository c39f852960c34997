"""The machines that are timed, and the batches that they train on: the same for every contender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cllm_lab.model import parts
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig

N_BATCHES = 8


@dataclass(frozen=True)
class Machine:
    """A model, the shape of its batches, and nothing about who trains it."""

    d_model: int
    n_layers: int
    n_heads: int
    vocab_size: int
    batch_size: int = 4
    sequence_length: int = 32

    @property
    def name(self) -> str:
        return (
            f"d={self.d_model}, {self.n_layers} layers, {self.n_heads} heads, V={self.vocab_size}, "
            f"B={self.batch_size}, T={self.sequence_length}"
        )

    @property
    def model_config(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=self.vocab_size,
            context_length=self.sequence_length,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
        )

    @property
    def train_config(self) -> TrainConfig:
        """Adam and clipping, as in the table that every contender is asked for."""
        return TrainConfig(
            batch_size=self.batch_size,
            sequence_length=self.sequence_length,
            optimizer="adam",
            learning_rate=1e-3,
            clip_norm=1.0,
        )

    def model(self) -> Transformer:
        """The machine with the weights that all contenders start from."""
        return Transformer(self.model_config, seed=0)

    def weights(self) -> dict[str, np.ndarray]:
        """The same weights by name, made without this library's kernels: a peer need not load them."""
        return dict(Transformer(self.model_config, seed=0, parts=parts.reference).params)

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Random token ids and the targets one further, int32 (B, T) each."""
        ids = np.random.default_rng(0).integers(
            0, self.vocab_size, (N_BATCHES, self.batch_size, self.sequence_length + 1), dtype=np.int32
        )
        return [(np.ascontiguousarray(row[:, :-1]), np.ascontiguousarray(row[:, 1:])) for row in ids]

    def products(self) -> Iterator[tuple[str, tuple[int, int, int], int]]:
        """The matrix products of one step: (kind, (rows, inner, columns), how often).

        Kinds: "forward" x W, "input gradient" dy W^T, "weight gradient" x^T dy, and "attention", whose products
        are batched over B H heads.
        """
        C, F, L, V = self.d_model, 4 * self.d_model, self.n_layers, self.vocab_size
        rows, D = self.batch_size * self.sequence_length, self.d_model // self.n_heads
        linear = [(C, 3 * C, L), (C, C, L), (C, F, L), (F, C, L), (C, V, 1)]
        for inner, columns, count in linear:
            yield "forward", (rows, inner, columns), count
            yield "input gradient", (rows, columns, inner), count
            yield "weight gradient", (inner, rows, columns), count
        T = self.sequence_length
        # scores and mix forward; dA, dV, dQ, dK backward
        for shape in ((T, D, T), (T, T, D), (T, D, T), (T, T, D), (T, T, D), (T, T, D)):
            yield "attention", shape, L

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all products of a step."""
        heads = self.batch_size * self.n_heads
        return sum(
            int(np.prod(shape)) * count * (heads if kind == "attention" else 1)
            for kind, shape, count in self.products()
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


SMALLEST = Machine(64, 2, 4, 611)
MIDDLE = Machine(128, 4, 4, 611)
LARGE = Machine(512, 6, 8, 611)
DOCUMENTED = replace(LARGE, vocab_size=10_000)
HEADLINE = (SMALLEST, MIDDLE, LARGE, DOCUMENTED)
BUSY = (SMALLEST, MIDDLE, LARGE)

CURVES: dict[str, tuple[Machine, ...]] = {
    "d_model": tuple(replace(MIDDLE, d_model=d) for d in (32, 64, 128, 256, 512)),
    "n_layers": tuple(replace(MIDDLE, n_layers=n) for n in (1, 2, 4, 8)),
    "sequence_length": tuple(replace(MIDDLE, sequence_length=t) for t in (16, 32, 64, 128, 256)),
    "vocab_size": tuple(replace(MIDDLE, vocab_size=v) for v in (100, 611, 2_500, 10_000, 40_000)),
    "batch_size": tuple(replace(MIDDLE, batch_size=b) for b in (1, 4, 16, 64)),
}
