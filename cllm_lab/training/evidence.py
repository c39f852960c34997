"""The long runs whose results the notebooks quote: what is run, how it is judged, and where it is kept.

``python -m cllm_lab.training.evidence [NAME ...]`` runs them (all without a name; some 20 minutes on two cores) and
writes one JSON file each, data/evidence_NAME.json, with seed, settings, machine and versions. `evidence` reads them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.files import replacing
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.provenance import provenance
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
# (epoch, loss in nats at or under which it was promised to be, documents)
PROMISES = ((10, 5.0, "000, 001"), (26, 3.2456, "003"))

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

Report = Callable[[str], None]


def documents_size(
    train: TrainConfig, report: Report, model: ModelConfig = DOCUMENTS_MODEL, epochs: int = DOCUMENTS_EPOCHS
) -> dict[str, Any]:
    """The documents' machine (V=10000, d=512, 6 layers), or a smaller twin, on the shipped corpus.

    Gives settings, the loss of each step and epoch in nats, the corpus's plateaus, and `judge_documents`.
    """
    corpus = load_corpus("large")
    trainer = Trainer(Transformer(model, seed=0), corpus, train)
    for epoch in range(epochs):
        history = trainer.run(epochs=1, progress=False)
        report(f"epoch {epoch + 1}: loss {history.epoch_loss[-1]:.4f}")
    result = {
        "model": asdict(model),
        "train": asdict(train),
        "epoch_loss": history.epoch_loss,
        "step_loss": history.losses,
        "plateaus": asdict(corpus.plateaus(model.vocab_size, train.sequence_length)),
    }
    return {**result, "checks": judge_documents(result)}


def judge_documents(result: Mapping[str, Any]) -> dict[str, bool]:
    """What documents 000, 001 and 003 promise of this run, held against its losses; NaN keeps no promise."""
    uniform = math.log(result["model"]["vocab_size"])
    losses = result["epoch_loss"]
    checks = {"the first step is within 1 % of ln V": abs(result["step_loss"][0] / uniform - 1.0) < 0.01}
    for epoch, target, document in PROMISES:
        if len(losses) >= epoch:
            checks[f"at or under {target} after {epoch} epochs ({document})"] = losses[epoch - 1] <= target
    return checks


def character_model(
    report: Report, model: ModelConfig = CHARACTER_MODEL, steps: int = CHARACTER_STEPS
) -> dict[str, Any]:
    """A character model on the text of Python's own help topics, and the same without attention as its control.

    Both are judged on the held-out tenth against the bigram entropy of that tenth itself, which flatters the
    bigram: its counts are taken from the very text that it predicts. ``model`` has its vocab_size replaced by
    the corpus's.
    """
    corpus = load_corpus("pydoc", tokenizer="char")
    held_out = corpus.decode(corpus.validation_tokens(CHARACTER_TRAINING.validation_fraction))
    config = replace(model, vocab_size=corpus.vocab_size)
    arms: dict[str, Any] = {}
    for arm, attention in (("with_attention", "multi-head"), ("without_attention", "none")):
        trainer = Trainer(Transformer(replace(config, attention=attention)), corpus, CHARACTER_TRAINING)
        history = trainer.run(steps=steps, progress=False)
        arms[arm] = {"step_loss": history.losses, "validation_loss": trainer.validation_loss()}
        report(f"{arm}: validation loss {arms[arm]['validation_loss']:.4f}")
    result = {
        "model": asdict(config),
        "train": asdict(CHARACTER_TRAINING),
        "corpus": {"n_tokens": corpus.n_tokens, "vocab_size": corpus.vocab_size, "sha256": corpus.sha256},
        "validation_bigram_entropy": Corpus.from_text(held_out, "char").plateaus().bigram,
        **arms,
    }
    return {**result, "checks": judge_characters(result)}


def judge_characters(result: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the model beat the bigram of the held-out text, and itself without attention."""
    reached = result["with_attention"]["validation_loss"]
    return {
        "validation loss under the split's own bigram entropy": reached < result["validation_bigram_entropy"],
        "validation loss under the control without attention": reached
        < result["without_attention"]["validation_loss"],
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


def summary() -> str:
    """The stored results as a Markdown table: a line a run, its figures in nats, what it showed and what not."""
    lines = ["| run | losses, nats | shown | not shown |", "|---|---|---|---|"]
    for name in EXPERIMENTS:
        result = evidence(name)
        if name == "character":
            figures = (
                f"validation {result['with_attention']['validation_loss']:.2f}, "
                f"without attention {result['without_attention']['validation_loss']:.2f}, "
                f"bigram entropy {result['validation_bigram_entropy']:.2f}"
            )
        else:
            losses = result["epoch_loss"]
            figures = f"first step {result['step_loss'][0]:.2f}" + "".join(
                f", epoch {epoch} {losses[epoch - 1]:.2f}" for epoch, _, _ in PROMISES
            )
        verdicts = {
            shown: "; ".join(check for check, holds in result["checks"].items() if holds == shown)
            for shown in (True, False)
        }
        lines.append(f"| {name} | {figures} | {verdicts[True]} | {verdicts[False]} |")
    return "\n".join(lines)


def collect(name: str, folder: Path, report: Report = print) -> Path:
    """Runs one experiment and stores its result atomically."""
    result = {
        "name": name,
        **provenance(),
        **EXPERIMENTS[name](report),
    }
    target = folder / f"evidence_{name}.json"
    with replacing(target) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
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
