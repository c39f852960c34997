"""The evidence sheet: what document 001 asks a person in need of help to provide, from a trainer, as one text."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from cllm_lab.clinic.subject import restored
from cllm_lab.corpus.batches import Batch
from cllm_lab.files import replacing
from cllm_lab.model.parameters import GROUPS, Array, Parameters
from cllm_lab.provenance import PACKAGES
from cllm_lab.training import diagnostics
from cllm_lab.training.trainer import Trainer

_MOST_LOSSES = 12
_SHARE_OF_ZEROS = 0.05


class EvidenceSheet(str):
    """A text that can be shared, with `save`."""

    def __repr__(self) -> str:
        return str(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the text as UTF-8, complete or not at all. Raises OSError as the file system does."""
        with replacing(path) as unfinished:
            unfinished.write_text(str(self), encoding="utf-8")


def evidence_sheet(trainer: Any) -> EvidenceSheet:
    """The list of document 001, "If you need help, provide": console output, losses over epochs, magnitudes of
    weights and gradients, errors; with settings, versions, and the corpus and its plateaus in nats.

    Gradients and errors are those of the trainer's next step, which is taken and taken back: the trainer is left
    as it was, bit for bit. Faults are not named; times and paths are left out, so that equal trainers give equal
    texts. ``trainer``: a `Trainer`, or the machine of a mystery.

    Raises TypeError for anything else. An ArithmeticError of the next step (`NonFiniteError`) is written down;
    every other error comes through.
    """
    if hasattr(trainer, "evidence_sheet"):
        return trainer.evidence_sheet()
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a Trainer or a mystery's machine; got {type(trainer).__name__}")
    batch = next_batch(trainer)
    with np.errstate(all="ignore"), restored(trainer):
        _, grads = trainer.gradients(*batch)
        error = _error_of_next_step(trainer, batch)
    sections = {
        "Settings": _settings(trainer),
        "Corpus": _corpus(trainer),
        "1. Console output": _console(trainer, grads),
        "2. Loss values": _losses(trainer),
        "3. Weight magnitudes, means of |w|": _magnitudes(trainer.params, "mean"),
        "4. Gradient magnitudes of the next step, largest |g|": _magnitudes(grads, "max"),
        "5. Errors": [error or "none in the next step"],
    }
    parts = ["Evidence sheet"]
    for title, lines in sections.items():
        parts += ["", title, *(f"  {line}" for line in lines)]
    return EvidenceSheet("\n".join(parts) + "\n")


def next_batch(trainer: Trainer) -> Batch:
    """The batch that the trainer's next step of its corpus would take, the first one where it takes several."""
    state, config = trainer.state(), trainer.config
    tokens = trainer.parts.stream(trainer.corpus, config.validation_fraction, state.epochs_done)
    batches = trainer.parts.batches(
        tokens, config.batch_size, config.sequence_length, config.shuffle, config.seed, state.epochs_done
    )
    return batches[state.batches_taken]


def _error_of_next_step(trainer: Trainer, batch: Batch) -> str:
    try:
        trainer.step(*batch)
    except ArithmeticError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _settings(trainer: Trainer) -> list[str]:
    model, train = asdict(trainer.model.config), asdict(trainer.config)
    # The façade lies above this room; whoever runs this has it loaded.
    own = sys.modules["cllm_lab"].__version__
    versions = [f"{package} {_version(package)}" for package in PACKAGES]
    return [
        "model: " + ", ".join(f"{name} {value}" for name, value in model.items()),
        f"       seed {trainer.model.seed}, {trainer.params.flat.dtype}, parts {trainer.model.table.name}",
        "training: " + ", ".join(f"{name} {value}" for name, value in train.items()),
        f"versions: cllm_lab {own}, Python {platform.python_version()}, {', '.join(versions)}",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _corpus(trainer: Trainer) -> list[str]:
    corpus = trainer.corpus
    levels = corpus.plateaus(trainer.model.config.vocab_size, trainer.config.sequence_length)
    return [
        f"{corpus.n_tokens} tokens ({corpus.tokenizer_name}), vocabulary of {corpus.vocab_size}",
        f"sha256 {corpus.sha256}",
        "plateaus in nats: "
        + ", ".join(f"{name} {nats:.4f}" for name, nats in asdict(levels).items() if nats is not None),
    ]


def _console(trainer: Trainer, grads: Parameters) -> list[str]:
    instruments = trainer.parts.instruments
    lines = [
        trainer.announcement,
        diagnostics.weight_magnitudes(trainer.params),
        diagnostics.sample_embedding_magnitude(trainer.params),
        instruments.gradient_statistics(grads),
        instruments.max_gradient_magnitude(grads),
    ]
    return [line for line in lines if line]


def _losses(trainer: Trainer) -> list[str]:
    history = trainer.history
    lines = [f"{len(history)} steps done, {len(history.epoch_loss)} epochs complete"]
    for title, losses in (("epochs", history.epoch_loss), ("steps", history.losses)):
        if losses:
            left_out = len(losses) - _MOST_LOSSES
            shown = [f"{loss:.4f}" for loss in losses]
            if left_out > 0:
                half = _MOST_LOSSES // 2
                shown = [*shown[:half], f"... {left_out} more ...", *shown[-half:]]
            lines.append(f"{title}: {' '.join(shown)}")
    return lines


def _magnitudes(tensors: Parameters, measure: str) -> list[str]:
    """A line per group, then one per tensor."""
    rows = {f"[{group}]": tensors.group(group) for group in GROUPS} | dict(tensors)
    width = max(map(len, rows))
    return [f"{name:{width}}  {_magnitude(array, measure)}" for name, array in rows.items()]


def _magnitude(array: Array, measure: str) -> str:
    if not array.size:
        return "no entries"
    sizes = np.abs(array)
    text = f"{float(sizes.mean() if measure == 'mean' else sizes.max()):.2e}"
    zeros = float(np.mean(array == 0.0))
    bad = array.size - int(np.isfinite(array).sum())
    return (
        text
        # A few zeros are chance, and another one on another processor.
        + (f", {zeros:.0%} exactly 0" if zeros >= _SHARE_OF_ZEROS else "")
        + (f", {bad} not finite" if bad else "")
    )
