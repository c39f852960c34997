"""Texts and sizes of machine that a new run can be made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.languages import InductionLanguage, MarkovLanguage
from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ModelConfig
from cllm_lab.views.live.setup import Setup

AS_IT_IS = "as it is"
CORPORA: Mapping[str, Callable[[], TokenSource]] = {
    "shipped text, words": lambda: load_corpus("large"),
    "shipped text, characters": lambda: load_corpus("large", tokenizer="char"),
    "Python's help, words": lambda: load_corpus("pydoc"),
    "copied blocks": lambda: InductionLanguage(n_symbols=8),
    "Markov chain": MarkovLanguage,
}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "d=32, 1 layer": {"d_model": 32, "n_heads": 4, "n_layers": 1},
    "d=64, 2 layers": {"d_model": 64, "n_heads": 4, "n_layers": 2},
    "d=128, 4 layers": {"d_model": 128, "n_heads": 4, "n_layers": 4},
    "documents' size": {"d_model": 512, "n_heads": 8, "n_layers": 6, "vocab_size": 10_000},
}


def first_setup() -> Setup:
    """What `lab.live()` begins with: the shipped text, and the default machine."""
    corpus = load_corpus("large")
    return Setup(corpus, ModelConfig(vocab_size=corpus.vocab_size))


def chosen(setup: Setup, corpus: str, size: str, seed: int, held_out: float) -> dict[str, Any]:
    """The fields of a new run: a name of `CORPORA` and one of `SIZES`, `AS_IT_IS` for what shall stay.

    The rows of the output are the text's tokens, or as many as the size says where that is more.
    Raises ConfigError or CorpusError for a seed or a share that cannot work.
    """
    text = setup.corpus if corpus == AS_IT_IS else CORPORA[corpus]()
    shape = {} if size == AS_IT_IS else {"d_ff": None, **SIZES[size]}
    rows = setup.model.vocab_size if (corpus, size) == (AS_IT_IS, AS_IT_IS) else text.vocab_size
    shape["vocab_size"] = max(text.vocab_size, shape.get("vocab_size", rows))
    text.training_tokens(held_out)
    return {
        "corpus": text,
        "model": replace(setup.model, **shape),
        "train": replace(
            setup.train,
            validation_fraction=held_out,
            seed=setup.train.seed if seed == setup.seed else seed,
        ),
        "seed": seed,
    }
