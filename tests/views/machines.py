"""Small machines and runs that the tests of the views share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cllm_lab as lab
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.history import History, StepRecord
from cllm_lab.training.trainer import Trainer

TEXT = "the light goes round and round and the sea goes down and the boats go out and come home again"


@dataclass(frozen=True)
class Swap:
    """A fault for a test: an id, and the parts it swaps."""

    id: str
    swaps: dict[str, Any] = field(default_factory=dict)


def corpus() -> lab.Corpus:
    return lab.Corpus.from_text(TEXT)


def machine(**settings: Any) -> Transformer:
    settings = {"context_length": 8, "d_model": 8, "n_heads": 2, "n_layers": 2} | settings
    return Transformer(lab.ModelConfig(vocab_size=corpus().vocab_size, **settings), parts=lab.parts.reference)


def trainer(model: Transformer | None = None, faults: tuple[Swap, ...] = (), **settings: Any) -> Trainer:
    config = lab.TrainConfig(**({"batch_size": 2, "sequence_length": 4} | settings))
    return Trainer(machine() if model is None else model, corpus(), config, faults)


def record(step: int, loss: float, epoch: int = 1, **fields: Any) -> StepRecord:
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
        "update_ratio": 1e-3,
        "grad_norm_embedding": 0.5,
        "grad_norm_attention": 0.25,
        "grad_norm_ff": 0.125,
        "grad_norm_ln": 0.0625,
        "tokens": 8,
        "seconds": 0.5,
    }
    return StepRecord(step, epoch, loss, **(values | fields))


def history(losses: list[float], epoch_loss: list[float] | None = None, **fields: Any) -> History:
    records = [record(step, loss, **fields) for step, loss in enumerate(losses, start=1)]
    return History(records, epoch_loss or [])
