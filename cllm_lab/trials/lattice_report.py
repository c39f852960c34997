"""What each algorithm of the lattice does to learning: the long comparison, its presets, and where it is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.languages import InductionLanguage, MarkovLanguage
from cllm_lab.corpus.source import TokenSource
from cllm_lab.resources import data_path
from cllm_lab.trials.ablation import Report, ablate
from cllm_lab.trials.lattice_arms import ARMS, BASELINE
from cllm_lab.trials.result import Ablation

FILE = "lattice_report.json"

MODEL: Mapping[str, Any] = MappingProxyType(
    {"context_length": 32, "d_model": 32, "n_heads": 4, "n_layers": 2}
)
TRAIN: Mapping[str, Any] = MappingProxyType(
    {"batch_size": 4, "sequence_length": 32, "warmup_steps": 20, "validation_fraction": 0.1}
)
# A tenth of the long text would take longer to validate than to train, and one of the short text is 123 targets.
CORPUS_TRAIN: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"words": {"validation_fraction": 0.3}, "text": {"validation_fraction": 0.005}}
)
# The short text is known by heart after some dozens of steps, and its validation loss rises again.
VALIDATE_EVERY: Mapping[str, int] = MappingProxyType({"words": 5, "markov": 20, "induction": 20, "text": 20})


@dataclass(frozen=True)
class Preset:
    """How much of the comparison is run."""

    steps: int
    seeds: int
    learning_rates: tuple[float, ...]
    tuning_seeds: int


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quick": Preset(200, 5, (1e-3, 3e-3, 1e-2), 1),
        "full": Preset(400, 10, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 2),
    }
)


def corpora() -> dict[str, TokenSource]:
    """The four corpora by name: the shipped words, two languages, and the characters of Python's help topics.

    The help topics are 465,048 characters in Python 3.11, and others in other Pythons.
    """
    return {
        "words": load_corpus("large"),
        "markov": MarkovLanguage(n_symbols=32, n_tokens=16_385),
        "induction": InductionLanguage(n_tokens=16_385),
        "text": load_corpus("pydoc", tokenizer="char"),
    }


def lattice_report(
    preset: str = "quick",
    *,
    backend: str = "loky",
    scheduler: str | None = None,
    n_jobs: int = -1,
    folder: str | os.PathLike[str] | None = None,
    report: Report = print,
) -> Ablation:
    """Runs `cllm_lab.trials.lattice_arms.ARMS` against the baseline on `corpora`, by `ablate`.

    Raises ValueError for a preset that does not exist, and as `ablate`.
    """
    if preset not in PRESETS:
        raise ValueError(f"no preset called {preset!r}; there is {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    return ablate(
        corpora(),
        ARMS,
        baseline=BASELINE,
        model=MODEL,
        train=TRAIN,
        corpus_train=CORPUS_TRAIN,
        steps=chosen.steps,
        validate_every=VALIDATE_EVERY,
        seeds=chosen.seeds,
        learning_rates=chosen.learning_rates,
        tuning_seeds=chosen.tuning_seeds,
        backend=backend,
        scheduler=scheduler,
        n_jobs=n_jobs,
        folder=folder,
        report=report,
    )


def lattice_results() -> Ablation:
    """The full report that is shipped. Raises FileNotFoundError where none is."""
    return Ablation.from_json(data_path(FILE))


def shipped_file() -> Path:
    """Where the full report is kept."""
    return data_path("README.md").parent / FILE
