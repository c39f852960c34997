"""One run of one machine: a pure function from plain data to plain data, the same on any worker."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cllm_lab.corpus.corpora import Corpus, corpus_from_description
from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts import Part
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.trainer import Trainer

Plain = dict[str, Any]

STRENGTH = "bias_strength"
# Points of a training curve that are kept: means over as many stretches of the run.
TRAINING_POINTS = 50


def source(corpus: TokenSource) -> Plain:
    """What a worker, wherever it runs, rebuilds a corpus from: a language's parameters, or the text itself.

    Raises TypeError for what is neither.
    """
    if isinstance(corpus, Corpus):
        return {
            "kind": "text",
            "tokenizer": corpus.tokenizer_name,
            "sha256": corpus.sha256,
            "text": corpus.text,
        }
    if isinstance(corpus, TokenSource):
        return corpus.description()
    raise TypeError(f"a corpus must come from load_corpus or be a language; got {type(corpus).__name__}")


def task(
    corpus: Mapping[str, Any],
    model: ModelConfig,
    train: TrainConfig,
    steps: int,
    validate_every: int,
    model_seed: int,
    train_seed: int,
) -> Plain:
    """The full description of one run in JSON's types; ``corpus`` from `source`.

    A schedule whose ``total_steps`` is None ends with the run. Raises ConfigError where its warm-up does not.
    """
    train = replace(train, total_steps=train.total_steps or steps)
    return {
        "corpus": dict(corpus),
        "model": asdict(model),
        "train": {**asdict(train), "betas": list(train.betas)},
        "steps": steps,
        "validate_every": validate_every,
        "model_seed": model_seed,
        "train_seed": train_seed,
    }


def without_text(description: Mapping[str, Any]) -> Plain:
    """The description of a run with the corpus's sha256 alone in place of its text."""
    corpus = {key: value for key, value in description["corpus"].items() if key != "text"}
    return {**description, "corpus": corpus}


def digest(description: Mapping[str, Any]) -> str:
    """sha256 of a description, whatever the order of its keys, as 64 hexadecimal digits."""
    text = json.dumps(without_text(description), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def run(description: Mapping[str, Any]) -> Plain:
    """Trains one machine for ``steps`` steps and gives back what it did, in JSON's types. Losses in nats.

    ``validation``: [[step, loss], ...] from step 0, the untrained machine, on; ``training``: [[step, mean loss of the
    stretch that ends there], ...]; ``parameters``: how many; ``strengths``: tensor -> {"start", "end"}, each with
    mean, min and max, of every learnable strength, and None where that is not finite; ``diverged``: None, or where the
    loss, a gradient or the validation loss ceased to be finite: {"step", "what"}. The curves then end before.

    Every machine runs through its single parts, also where a trainer would take the compiled pass, and on one thread:
    two arms that say the same thing then give the same bits, and so do all workers of one kind of processor.
    Raises ConfigError and CorpusError for settings that cannot work.
    """
    with threadpool_limits(limits=1):
        trainer = trainer_of(description)
        start = _strengths(trainer)
        losses: list[float] = []
        validation: list[list[float]] = []
        diverged = _validate(trainer, 0, validation)
        steps, every = description["steps"], description["validate_every"]
        endless = trainer.steps()
        while diverged is None and trainer.steps_done < steps:
            block = min(every - trainer.steps_done % every, steps - trainer.steps_done)
            try:
                for _ in range(block):
                    losses.append(next(endless).loss)
            except NonFiniteError as error:
                diverged = {"step": error.step, "what": error.tensor}
            else:
                diverged = _validate(trainer, trainer.steps_done, validation)
        return {
            "validation": validation,
            "training": _thinned(losses, steps),
            "first_loss": losses[0] if losses else None,
            "parameters": trainer.params.flat.size,
            "strengths": {
                name: {"start": start[name], "end": end if all(map(math.isfinite, end.values())) else None}
                for name, end in _strengths(trainer).items()
            },
            "diverged": diverged,
        }


def trainer_of(description: Mapping[str, Any], through_parts: bool = True) -> Trainer:
    """The trainer of a described run; ``through_parts`` keeps it from the compiled pass."""
    train = {**description["train"], "seed": description["train_seed"]}
    model = Transformer(ModelConfig(**description["model"]), seed=description["model_seed"])
    # The run validates for itself: the trainer would at the end of each epoch, however short.
    config = replace(TrainConfig(**train), validate_every=description["steps"] + 1)
    corpus = corpus_of(description["corpus"])
    return Trainer(single_parts(model) if through_parts else model, corpus, config)


def single_parts(model: Transformer) -> Transformer:
    """A copy that computes the same, but that no compiled pass can stand for: one of its parts has another name."""
    loss = model.parts.loss
    return model.swapped(loss=Part(f"{loss.name} by itself", loss.forward, loss.backward))


def corpus_of(description: Mapping[str, Any]) -> TokenSource:
    """The corpus of a `source`; the last few are kept. Raises CorpusError as loading it does."""
    return _corpus(json.dumps(description, sort_keys=True))


@lru_cache(maxsize=8)
def _corpus(description: str) -> TokenSource:
    given = json.loads(description)
    if given["kind"] == "text":
        return Corpus.from_text(given["text"], given["tokenizer"])
    return corpus_from_description(given)


def _validate(trainer: Trainer, step: int, curve: list[list[float]]) -> Plain | None:
    # A machine that overflows is a result, which the caller reports; NumPy would warn of it as well.
    with np.errstate(all="ignore"):
        loss = trainer.validation_loss()
    if not math.isfinite(loss):
        return {"step": step, "what": "validation loss"}
    curve.append([step, loss])
    return None


def _strengths(trainer: Trainer) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
        for name, values in trainer.params.items()
        if name.rpartition(".")[2] == STRENGTH
    }


def _thinned(losses: list[float], steps: int) -> list[list[float]]:
    """Means over the stretches of an equal division of ``steps``, as far as there are losses for all of one."""
    count = min(TRAINING_POINTS, steps)
    ends = [steps * (index + 1) // count for index in range(count)]
    return [
        [end, math.fsum(losses[begin:end]) / (end - begin)]
        for begin, end in zip([0, *ends], ends, strict=False)
        if end <= len(losses)
    ]
