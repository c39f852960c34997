"""What is looked at now and then while a machine trains: an attention map, and text that it writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.parameters import Array
from cllm_lab.training.generation import generated_tokens

# At most this share of the time goes into looking, so that training is hardly slower for it.
SHARE = 0.05
ATTENTION_EVERY = 1.0
TEXT_EVERY = 4.0
MOST_POSITIONS = 32
TEXT_TOKENS = 24
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Glance:
    """``attention`` (H, T, T) of one layer for the first window of the text, None where the machine has none or nobody
    looked yet (``looked``); ``tokens`` that window's; ``text`` what the machine wrote last, begun after ``text_step``.
    """

    attention: Array | None = None
    looked: bool = False
    tokens: tuple[str, ...] = ()
    layer: int = 0
    text: str = ""
    text_step: int = 0


class Glances:
    """Looks at a trainer between two of its steps, a little at a time, and within a share of the time.

    Text is drawn a token at a time, so that no step waits for a whole sentence; its first token and its last may be
    some steps apart. Nothing of the trainer is changed.
    """

    def __init__(self, trainer: Trainer, share: float = SHARE) -> None:
        self._trainer = trainer
        self._share = share
        self._began = time.perf_counter()
        self._spent = 0.0
        self._attention_due = self._text_due = 0.0
        length = min(trainer.config.sequence_length, MOST_POSITIONS)
        self._window = np.asarray(trainer.corpus.training_tokens(trainer.config.validation_fraction))[:length]
        self._words = tuple(trainer.corpus.decode([token]) for token in self._window)
        self._pieces: Iterator[str] | None = None
        self.glance = Glance(tokens=self._words)

    def after_step(self) -> bool:
        """Looks where something is due and there is time for it; says whether anything was looked at."""
        now = time.perf_counter()
        if self._spent > self._share * (now - self._began):
            return False
        if self._pieces is not None:
            self._write_on()
        elif now >= self._attention_due:
            self.look()
            self._attention_due = now + ATTENTION_EVERY
        elif now >= self._text_due:
            self._begin_text()
            self._text_due = now + TEXT_EVERY
        else:
            return False
        self._spent += time.perf_counter() - now
        return True

    @np.errstate(all="ignore")
    def look(self) -> None:
        """Looks at the attention now, whatever the time."""
        activations = self._trainer.forward(self._window[None])
        layer = self._trainer.model.config.n_layers - 1
        name = f"layers.{layer}.attention.weights"
        attention = np.array(activations[name][0]) if name in activations else None
        self._set(attention=attention, layer=layer, looked=True)

    def _begin_text(self) -> None:
        prompt = self._words[0]
        step = self._trainer.steps_done
        try:
            self._pieces = generated_tokens(
                self._trainer.model,
                self._trainer.corpus,
                prompt,
                TEXT_TOKENS,
                temperature=TEMPERATURE,
                seed=step,
            )
        except ValueError as refused:  # a first word that cannot be read again, in somebody's own corpus
            self._set(text=f"no text: {refused}", text_step=step)
        self._draft = prompt
        self._draft_step = step

    @np.errstate(all="ignore")
    def _write_on(self) -> None:
        assert self._pieces is not None
        try:
            piece = next(self._pieces, None)
        except ArithmeticError as broken:
            piece, self._draft = None, f"no text: {broken}"
        if piece is None:
            self._pieces = None
            self._set(text=self._draft, text_step=self._draft_step)
        else:
            self._draft += piece
            self._set(text=self._draft, text_step=self._draft_step)

    def _set(self, **changes: Any) -> None:
        # One assignment: a thread that draws sees the glance before or after, never half of it.
        self.glance = replace(self.glance, **changes)
