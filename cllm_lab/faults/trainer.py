"""The trainer as the façade gives it: faults by id as well as by object. The engine's own takes objects only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cllm_lab.corpus.source import TokenSource
from cllm_lab.faults.catalogue import resolve
from cllm_lab.faults.fault import Fault
from cllm_lab.model.transformer import Transformer
from cllm_lab.training import checkpoint, trainer
from cllm_lab.training import parts as training_parts
from cllm_lab.training.config import TrainConfig


class Trainer(trainer.Trainer):
    """Trains a copy of a model on a corpus, with faults put in: `cllm_lab.training.trainer.Trainer`, whose
    settings and errors it has, with faults by their ids in `cllm_lab.faults.catalogue` besides objects.

    Raises ValueError, naming the nearest ids, for one that the catalogue does not hold.
    """

    def __init__(
        self,
        model: Transformer,
        corpus: TokenSource,
        config: TrainConfig | None = None,
        faults: Sequence[str | training_parts.Fault] = (),
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(model, corpus, config, _resolved(faults), log)

    def at(self, step: int, **change: Any) -> None:
        """As the engine's `at`; ``faults`` by id or object."""
        if "faults" in change:
            change["faults"] = _resolved(change["faults"])
        super().at(step, **change)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        corpus: TokenSource | None = None,
        faults: Sequence[str | training_parts.Fault] | None = None,
        log: str | os.PathLike[str] | None = None,
    ) -> Trainer:
        """A trainer that goes on where the saved one stood; see `cllm_lab.training.checkpoint`.

        Where ``faults`` is None, those of the catalogue that the checkpoint names.
        """
        named = checkpoint.fault_ids(path) if faults is None else faults
        return checkpoint.load(path, corpus, _resolved(named), log, cls)  # type: ignore[return-value]


def _resolved(faults: Any) -> Any:
    # A lone string would be read letter by letter; the engine's own error names it.
    return faults if isinstance(faults, (str, Fault)) else resolve(faults)
