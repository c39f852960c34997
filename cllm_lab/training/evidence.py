"""The long runs whose results the notebooks quote: what is run, how it is judged, and where it is kept.

``python -m cllm_lab.training.evidence [NAME ...]`` runs them (all without a name; some 20 minutes on two cores) and
writes one JSON file each, data/evidence_NAME.json, with seed, settings, machine and versions. `evidence` reads them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.resources import data_path
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

DOCUMENTS_MODEL = ModelConfig(
    vocab_size=10_000, context_length=32, d_model=512, n_heads=8, n_layers=6, d_ff=2048
)
# Adam's own rate for a machine of this width; the documents' 0.001 belongs to their SGD.
DOCUMENTS_ADAM = TrainConfig(batch_size=4, sequence_length=32, optimizer="adam", learning_rate=3e-4)
DOCUMENTS_SGD = TrainConfig(
    batch_size=4, sequence_length=32, optimizer="sgd", learning_rate=1e-3, clip_norm=None
)
DOCUMENTS_EPOCHS = 26
TARGET_AFTER_10 = 5.0
TARGET_AFTER_26 = 3.2456

CHARACTER_MODEL = ModelConfig(vocab_size=2, context_length=64, d_model=128, n_heads=4, n_layers=4)
CHARACTER_TRAINING = TrainConfig(
    batch_size=12,
    sequence_length=64,
    learning_rate=2e-3,
    schedule="cosine",
    warmup_steps=100,
    validation_fraction=0.1,
)
CHARACTER_STEPS = 2000
PACKAGES = ("cllm_lab", "numpy", "numba", "scipy")

Report = Callable[[str], None]


def documents_size(train: TrainConfig, report: Report, epochs: int = DOCUMENTS_EPOCHS) -> dict[str, Any]:
    """The documents' machine (V=10000, d=512, 6 layers) on the shipped corpus: losses, and what they promised."""
    corpus = load_corpus("large")
    trainer = Trainer(Transformer(DOCUMENTS_MODEL, seed=0), corpus, train)
    for epoch in range(epochs):
        history = trainer.run(epochs=1, progress=False)
        report(f"epoch {epoch + 1}: loss {history.epoch_loss[-1]:.4f}")
    first = history[0].loss
    uniform = math.log(DOCUMENTS_MODEL.vocab_size)
    checks = {"the first step is within 1 % of ln V": abs(first / uniform - 1.0) < 0.01}
    if epochs >= DOCUMENTS_EPOCHS:
        checks["at or under 5.0 after 10 epochs (000, 001)"] = history.epoch_loss[9] <= TARGET_AFTER_10
        checks["at or under 3.2456 after 26 epochs (003)"] = history.epoch_loss[25] <= TARGET_AFTER_26
    return {
        "model": asdict(DOCUMENTS_MODEL),
        "train": asdict(train),
        "first_loss": first,
        "epoch_loss": history.epoch_loss,
        "step_loss": history.losses,
        "plateaus": asdict(corpus.plateaus(DOCUMENTS_MODEL.vocab_size, train.sequence_length)),
        "checks": checks,
    }


def character_model(report: Report, steps: int = CHARACTER_STEPS) -> dict[str, Any]:
    """A character model on the text of Python's own help topics, and the same without attention as its control.

    Both are judged on the held-out tenth against the bigram entropy of that tenth itself, which flatters the
    bigram: its counts are taken from the very text that it predicts.
    """
    corpus = load_corpus("pydoc", tokenizer="char")
    fraction = CHARACTER_TRAINING.validation_fraction
    held_out = Corpus.from_text(corpus.decode(corpus.validation_tokens(fraction)), "char")
    config = replace(CHARACTER_MODEL, vocab_size=corpus.vocab_size)
    outcome: dict[str, Any] = {}
    for name, attention in (("with_attention", "multi-head"), ("without_attention", "none")):
        trainer = Trainer(Transformer(replace(config, attention=attention)), corpus, CHARACTER_TRAINING)
        history = trainer.run(steps=steps, progress=False)
        outcome[name] = {"step_loss": history.losses, "validation_loss": trainer.validation_loss()}
        report(f"{name}: validation loss {outcome[name]['validation_loss']:.4f}")
    bigram = held_out.plateaus().bigram
    reached = outcome["with_attention"]["validation_loss"]
    return {
        "model": asdict(config),
        "train": asdict(CHARACTER_TRAINING),
        "corpus": {"n_tokens": corpus.n_tokens, "vocab_size": corpus.vocab_size, "sha256": corpus.sha256},
        "validation_bigram_entropy": bigram,
        **outcome,
        "checks": {
            "validation loss is under the split's own bigram entropy": reached < bigram,
            "validation loss is under the control without attention": reached
            < outcome["without_attention"]["validation_loss"],
        },
    }


EXPERIMENTS: Mapping[str, Callable[[Report], dict[str, Any]]] = {
    "documents-adam": lambda report: documents_size(DOCUMENTS_ADAM, report),
    "documents-sgd": lambda report: documents_size(DOCUMENTS_SGD, report),
    "character": character_model,
}


def evidence(name: str) -> dict[str, Any]:
    """The stored result of one of `EXPERIMENTS`. Raises ValueError naming those that there are."""
    if name not in EXPERIMENTS:
        raise ValueError(f"no evidence called {name!r}; there is {', '.join(EXPERIMENTS)}")
    return json.loads(data_path(f"evidence_{name}.json").read_text(encoding="utf-8"))


def collect(name: str, folder: Path, report: Report = print) -> Path:
    """Runs one experiment and stores its result atomically."""
    result = {
        "name": name,
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in PACKAGES},
        **EXPERIMENTS[name](report),
    }
    target = folder / f"evidence_{name}.json"
    handle, temporary = tempfile.mkstemp(suffix=".part", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(temporary, target)
    return target


def main(names: list[str]) -> None:
    """Runs the named experiments, all where none is named."""
    folder = data_path("README.md").parent
    for name in names or list(EXPERIMENTS):
        if name not in EXPERIMENTS:
            raise SystemExit(f"no experiment called {name!r}; there is {', '.join(EXPERIMENTS)}")
        print(f"{name}:")
        path = collect(name, folder, lambda line: print(f"  {line}", flush=True))
        for check, holds in json.loads(path.read_text(encoding="utf-8"))["checks"].items():
            print(f"  {'yes' if holds else 'NO '} {check}")


if __name__ == "__main__":
    main(sys.argv[1:])
