"""Tables: what every tensor does in a step, and how many numbers a forward pass keeps."""

from __future__ import annotations

from dataclasses import asdict

import pandas
from numpy.typing import ArrayLike

from cllm_lab.model.config import ModelConfig
from cllm_lab.model.memory import activation_memory
from cllm_lab.training.trainer import Trainer

BYTES_PER_FLOAT = 4
BYTES_PER_MB = 1e6
COUNTS = ("counted", "held", "needed")


def tensor_table(trainer: Trainer, tokens: ArrayLike, targets: ArrayLike) -> pandas.DataFrame:
    """A row a tensor: what it would do in a step on this batch, measured; the trainer is left as it was.

    Columns: group, shape, trainable (whether the optimizer updates it), the Euclidean norms weight, gradient and
    update, and gradient_zeros, the share of gradient entries that are exactly 0.
    Raises ValueError or TypeError for tokens and targets that the model refuses, NonFiniteError as `Trainer.step`.
    """
    rows = [asdict(row) for row in trainer.tensor_rows(tokens, targets)]
    return pandas.DataFrame(rows).rename(columns={"name": "tensor"}).set_index("tensor")


def memory_table(config: ModelConfig, batch_size: int, sequence_length: int) -> pandas.DataFrame:
    """Document 003's activation fields and what attention needs besides: floats, and MB (1e6 bytes) in float32.

    Columns: kept_as (the names here); counted, held and needed (floats, see `activation_memory`), and the same
    in MB. The last row, "sum", adds up each column.
    Raises ConfigError as `activation_memory` does.
    """
    rows = [asdict(row) for row in activation_memory(config, batch_size, sequence_length)]
    total = {"field": "sum", "here": "", **{column: sum(row[column] for row in rows) for column in COUNTS}}
    table = pandas.DataFrame([*rows, total]).rename(columns={"here": "kept_as"}).set_index("field")
    for column in COUNTS:
        table[f"{column}_MB"] = table[column] * BYTES_PER_FLOAT / BYTES_PER_MB
    return table
