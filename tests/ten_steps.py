"""Ten training steps of small machines: what PyTorch and this library are both asked to do.

PyTorch's answers are in `tests/fixtures/pytorch_ten_steps.json`, written by `python -m tests.parity.record` where
PyTorch is installed, so that `make test` can hold this library against them without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cllm_lab.corpus.languages import MarkovLanguage
from cllm_lab.model import parts
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

FIXTURE = Path(__file__).parent / "fixtures" / "pytorch_ten_steps.json"
N_STEPS, BATCH, LENGTH = 10, 3, 6
TABLES = {"reference": parts.reference, "fast": parts.fast}
CORPUS = MarkovLanguage(n_symbols=9, seed=0, n_tokens=50)


@dataclass(frozen=True)
class TenSteps:
    """A machine, how it is trained, and from where: everything but the implementation."""

    name: str
    model_settings: Mapping[str, Any]
    train_settings: Mapping[str, Any]
    seed: int = 11

    @property
    def model_config(self) -> ModelConfig:
        small = {"context_length": LENGTH, "d_model": 12, "n_heads": 3, "n_layers": 2, "d_ff": 20}
        return ModelConfig(**{"vocab_size": CORPUS.vocab_size, **small, **self.model_settings})

    @property
    def train_config(self) -> TrainConfig:
        return TrainConfig(batch_size=BATCH, sequence_length=LENGTH, **self.train_settings)

    def batches(self) -> np.ndarray:
        """Tokens and targets of every step, (steps, 2, B, T)."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(0, self.model_config.vocab_size, (N_STEPS, 2, BATCH, LENGTH))

    def model(self, table: str, dtype: str) -> Transformer:
        return Transformer(self.model_config, self.seed, dtype, TABLES[table])


# With these settings clipping acts on some steps and not on others, of the same run or of another.
RUNS = (
    TenSteps("adam", {"init": "he"}, {"optimizer": "adam", "learning_rate": 1e-3}),
    TenSteps(
        "adam, other choices",
        {"norm": "post", "tied": False, "activation": "gelu", "positions": "sinusoidal"},
        {"optimizer": "adam", "learning_rate": 1e-3, "betas": (0.8, 0.99), "epsilon": 1e-6, "clip_norm": 0.3},
    ),
    TenSteps(
        "adamw", {"activation": "gelu"}, {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1}
    ),
    TenSteps(
        "sgd",
        {"init": "he", "positions": "none"},
        {"optimizer": "sgd", "learning_rate": 0.02, "clip_norm": None},
    ),
    TenSteps(
        "momentum",
        {"init": "he", "norm": "post"},
        {"optimizer": "momentum", "learning_rate": 0.02, "momentum": 0.8},
    ),
    TenSteps(
        "no attention", {"attention": "none", "tied": False}, {"optimizer": "adam", "learning_rate": 1e-3}
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What ten steps gave: the loss and gradient norm before each update, and the tensors after the last."""

    losses: list[float]
    grad_norms: list[float]
    params: Mapping[str, np.ndarray]

    def digest(self) -> dict[str, Any]:
        """The same in little: of each tensor its sum and its Euclidean norm."""
        compared = {name: comparable(name, array) for name, array in self.params.items()}
        tensors = {
            name: [float(array.sum()), float(np.linalg.norm(array))] for name, array in compared.items()
        }
        return {"losses": self.losses, "grad_norms": self.grad_norms, "tensors": tensors}


def comparable(name: str, array: np.ndarray) -> np.ndarray:
    """A tensor without the key biases.

    A constant added to every key changes no softmax, so their gradient is 0 but for rounding, and Adam divides
    that by its own size: where it ends is the rounding's choice, no implementation's. It changes no loss.
    """
    if not name.endswith("b_qkv"):
        return array
    queries, _, values = np.split(array, 3)
    return np.concatenate([queries, values])


def train(run: TenSteps, table: str, dtype: str) -> Outcome:
    """This library's ten steps."""
    trainer = Trainer(run.model(table, dtype), CORPUS, run.train_config)
    records = [trainer.step(tokens, targets) for tokens, targets in run.batches()]
    params = {name: view.copy() for name, view in trainer.params.items()}
    return Outcome([r.loss for r in records], [r.grad_norm for r in records], params)


def recorded() -> dict[str, Any]:
    """The fixture."""
    return json.loads(FIXTURE.read_text(encoding="utf-8"))
