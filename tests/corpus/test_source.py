"""What holds for every corpus, whatever its tokens come from."""

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus import (
    ConstantLanguage,
    Corpus,
    CorpusError,
    InductionLanguage,
    MarkovLanguage,
    TokenSource,
    require_vocabulary,
)

WORDS = Corpus.from_text("the light goes round and round and the boat comes home " * 5)
CHARACTERS = Corpus.from_text("The light goes round.\n", tokenizer="char")
SOURCES = [WORDS, CHARACTERS, MarkovLanguage(), InductionLanguage(), ConstantLanguage()]
EACH = pytest.mark.parametrize(
    "corpus", SOURCES, ids=["words", "characters", "markov", "induction", "constant"]
)
FIXED = pytest.mark.parametrize(
    "corpus", [WORDS, CHARACTERS, ConstantLanguage()], ids=["words", "chars", "constant"]
)


@EACH
def test_every_source_offers_the_whole_interface(corpus):
    assert isinstance(corpus, TokenSource)
    assert corpus.tokens.dtype == np.int32
    assert corpus.n_tokens == len(corpus.tokens) >= 2
    assert corpus.vocab_size == len(corpus.vocabulary) == len(set(corpus.vocabulary))
    assert all(isinstance(token, str) for token in corpus.vocabulary)
    assert corpus.vocabulary == corpus.tokenizer.vocabulary
    assert corpus.special_ids == corpus.tokenizer.special_ids
    assert corpus.tokenizer_name == corpus.tokenizer.name
    assert corpus.name is None
    assert corpus.path is None
    assert corpus.encode(corpus.text).tolist() == corpus.tokens.tolist()
    assert corpus.encode(corpus.decode(corpus.tokens)).tolist() == corpus.tokens.tolist()
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()
    assert isinstance(corpus.endless, bool)


@EACH
def test_tokens_and_attributes_cannot_be_changed(corpus):
    with pytest.raises(ValueError, match="read-only"):
        corpus.tokens[0] = 1
    with pytest.raises(AttributeError):
        corpus.tokens = np.zeros(3, dtype=np.int32)


@EACH
def test_a_description_is_json(corpus):
    description = corpus.description()
    assert json.loads(json.dumps(description)) == description
    assert description["sha256"] == corpus.sha256


@EACH
def test_plateaus_use_the_vocabulary_asked_for(corpus):
    assert corpus.plateaus().uniform == math.log(corpus.vocab_size)
    assert corpus.plateaus(vocab_size=10_000).uniform == math.log(10_000)
    assert corpus.plateaus(vocab_size=10_000).unigram == corpus.plateaus().unigram
    assert corpus.plateaus().positional is None
    with pytest.raises(CorpusError, match="vocab_size"):
        corpus.plateaus(vocab_size=corpus.vocab_size - 1)
    with pytest.raises(ValueError, match="sequence_length"):
        corpus.plateaus(sequence_length=0)
    with pytest.raises(TypeError, match="sequence_length"):
        corpus.plateaus(sequence_length=2.5)


@EACH
def test_a_model_needs_a_row_for_every_token(corpus):
    require_vocabulary(corpus, corpus.vocab_size)
    require_vocabulary(corpus, corpus.vocab_size + 1)
    with pytest.raises(CorpusError, match=f"has {corpus.vocab_size} tokens.*use {corpus.vocab_size} or more"):
        require_vocabulary(corpus, corpus.vocab_size - 1)
    with pytest.raises(TypeError, match="vocab_size"):
        require_vocabulary(corpus, float(corpus.vocab_size))


@given(st.integers(4, 100), st.floats(0, 1, exclude_max=True))
def test_the_splits_of_a_text_are_its_beginning_and_its_end(n_tokens, fraction):
    corpus = ConstantLanguage(n_tokens=n_tokens)
    n_validation = round(fraction * n_tokens)
    if (fraction > 0 and n_validation < 2) or n_tokens - n_validation < 2:
        with pytest.raises(CorpusError, match="validation_fraction"):
            corpus.training_tokens(fraction)
        with pytest.raises(CorpusError, match="validation_fraction"):
            corpus.validation_tokens(fraction)
        return
    training = corpus.training_tokens(fraction)
    assert len(training) == n_tokens - n_validation
    if fraction > 0:
        assert len(corpus.validation_tokens(fraction)) == n_validation


def test_a_text_is_validated_on_its_end_without_overlap():
    tokens = WORDS.tokens.tolist()
    training, held_out = WORDS.training_tokens(0.2), WORDS.validation_tokens(0.2)
    assert len(held_out) == round(0.2 * WORDS.n_tokens)
    assert training.tolist() + held_out.tolist() == tokens
    assert not np.shares_memory(training, held_out)


@FIXED
def test_the_splits_of_a_text_are_read_only_views_and_the_same_each_epoch(corpus):
    for split in (corpus.training_tokens(0.25), corpus.validation_tokens(0.25)):
        assert np.shares_memory(split, corpus.tokens)
        assert not split.flags.writeable
        assert split.dtype == np.int32
    assert corpus.training_tokens(0.25, epoch=3).tolist() == corpus.training_tokens(0.25).tolist()
    assert corpus.training_tokens().tolist() == corpus.tokens.tolist()
    assert not corpus.endless


@EACH
@pytest.mark.parametrize("fraction", [1, 1.5, -0.1, math.nan, math.inf])
def test_a_fraction_outside_its_range_is_refused(corpus, fraction):
    with pytest.raises(CorpusError, match=r"validation_fraction must lie in \[0, 1\)"):
        corpus.training_tokens(fraction)
    with pytest.raises(CorpusError, match=r"validation_fraction must lie in \[0, 1\)"):
        corpus.validation_tokens(fraction)


@EACH
@pytest.mark.parametrize("fraction", [None, "0.1", True])
def test_a_fraction_must_be_a_number(corpus, fraction):
    with pytest.raises(TypeError, match="validation_fraction must be a number"):
        corpus.training_tokens(fraction)


@EACH
def test_there_is_no_validation_split_without_a_fraction(corpus):
    with pytest.raises(CorpusError, match="holds nothing out"):
        corpus.validation_tokens(0)


def test_splits_that_are_too_small_say_what_would_work():
    corpus = ConstantLanguage(n_tokens=10)
    with pytest.raises(CorpusError, match=r"holds out 1 of 10 tokens.*use 0, or 0\.2 or more"):
        corpus.training_tokens(0.1)
    with pytest.raises(CorpusError, match="leaves 1 of 10 tokens for training"):
        corpus.validation_tokens(0.9)


@EACH
@pytest.mark.parametrize(("epoch", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_an_epoch_must_be_a_count(corpus, epoch, error):
    with pytest.raises(error, match="epoch"):
        corpus.training_tokens(epoch=epoch)


def test_the_room_needs_numpy_alone():
    heavy = ("numba", "scipy", "matplotlib", "pandas", "ipywidgets", "safetensors", "tqdm")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); import cllm_lab.corpus as room; "
        "print(room.load_corpus('large').n_tokens)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.strip() == "1241"
