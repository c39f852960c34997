"""Texts and synthetic languages as token streams, their entropies, and batches of them."""

from cllm_lab.corpus.batches import Batch, batches_per_epoch, epoch_batches
from cllm_lab.corpus.corpora import (
    SHIPPED_CORPORA,
    Corpus,
    CorpusNotFoundError,
    corpus_from_description,
    load_corpus,
)
from cllm_lab.corpus.entropies import Plateaus, bigram_entropy, positional_entropy, unigram_entropy
from cllm_lab.corpus.languages import ConstantLanguage, InductionLanguage, MarkovLanguage
from cllm_lab.corpus.source import CorpusError, TokenSource, require_vocabulary
from cllm_lab.corpus.tokenizer import CharTokenizer, Tokenizer, UnknownTokenError, WordTokenizer

__all__ = [
    "SHIPPED_CORPORA",
    "Batch",
    "CharTokenizer",
    "ConstantLanguage",
    "Corpus",
    "CorpusError",
    "CorpusNotFoundError",
    "InductionLanguage",
    "MarkovLanguage",
    "Plateaus",
    "TokenSource",
    "Tokenizer",
    "UnknownTokenError",
    "WordTokenizer",
    "batches_per_epoch",
    "bigram_entropy",
    "corpus_from_description",
    "epoch_batches",
    "load_corpus",
    "positional_entropy",
    "require_vocabulary",
    "unigram_entropy",
]
