"""This library's training step, as its trainer makes it."""

from __future__ import annotations

import itertools
import math

from cllm_lab.corpus.languages import ConstantLanguage
from cllm_lab.model.parameters import GROUPS
from cllm_lab.training.trainer import Trainer
from tests.bench.machines import Machine


class OurStep:
    """One training step of the compiled pass."""

    def __init__(self, machine: Machine, threads: int) -> None:
        corpus = ConstantLanguage(machine.vocab_size)
        self._trainer = Trainer(machine.model(), corpus, machine.train_config)
        self._batches = itertools.cycle(machine.batches())
        self._updates = 0

    def step(self) -> float:
        """One clipped update on the next batch; its loss in nats."""
        return self._trainer.step(*next(self._batches)).loss

    # The step taken apart. These lines follow the trainer's own and reach into it.

    def forward(self) -> None:
        """The loss of the next batch, with which the compiled pass goes the way forward."""
        tokens, targets = next(self._batches)
        self._pass = self._trainer._pass(tokens.shape)
        self._pass.forward(tokens)
        self._pass.loss(targets)

    def backward(self) -> None:
        """Its gradient."""
        self._grads = self._pass.backward()

    def update(self) -> None:
        """The clipped update along that gradient."""
        trainer, config = self._trainer, self._trainer.config
        self._updates += 1
        norm = math.hypot(*(trainer._norm(self._grads.group(group)) for group in GROUPS))
        scale = trainer.parts.clipping(norm, config.clip_norm)
        trainer._apply(self._grads, config.learning_rate, trainer.steps_done + self._updates, scale)
