"""Streams and batches that are not those of the text, and what tells them from it."""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.corpus.entropies import bigram_entropy, unigram_entropy
from cllm_lab.corpus.source import CorpusError
from cllm_lab.faults import catalogue
from cllm_lab.faults.data import (
    batches_in_text_order,
    batches_shifted_by_two,
    batches_with_shuffled_targets,
    case_sensitive_stream,
    sorted_stream,
    spiral_distance,
    unshifted_batches,
    whole_batches,
)
from tests.training.machines import LANGUAGE, TABLES

both_tables = pytest.mark.parametrize("table", TABLES)
LARGE = load_corpus("large")
TEXT = "The sky IS blue the sky is Blue and the Bird sings over green hills so the sky is wide"
ARGUMENTS = (2, 4, True, 3, 1)  # batch_size, sequence_length, shuffle, seed, epoch


def pairs(batches) -> list[tuple[int, int]]:
    return [(int(i), int(t)) for batch in batches for i, t in zip(batch[0].flat, batch[1].flat, strict=True)]


def loss_on_text(trainer) -> float:
    """Mean loss over the text as it is."""
    batches = epoch_batches(trainer.corpus.tokens, 4, 32, False, 0, 0)
    return float(np.average([trainer.loss(*b) for b in batches], weights=[b.targets.size for b in batches]))


# Sorting.


@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True))
def test_the_distance_on_the_spiral_grows_with_the_id(ids):
    distances = spiral_distance(np.sort(np.array(ids, np.int32)))
    assert (np.diff(distances) > 0).all()
    n = max(ids)
    x, y, z = math.sqrt(n) * math.cos(2.4 * n), math.sqrt(n) * math.sin(2.4 * n), math.log(n + 1)
    assert distances[-1] == pytest.approx(math.hypot(x, y, z), rel=1e-12)


def test_sorting_by_distance_is_sorting_by_id_and_empties_the_next_token_of_surprise():
    stream = sorted_stream(LARGE, 0.0, 0)
    np.testing.assert_array_equal(stream, np.sort(LARGE.tokens))
    assert unigram_entropy(stream) == pytest.approx(unigram_entropy(LARGE.tokens), rel=1e-12)
    assert bigram_entropy(stream) < 0.25 * bigram_entropy(LARGE.tokens)
    held_out = sorted_stream(LARGE, 0.1, 0)
    np.testing.assert_array_equal(held_out, np.sort(LARGE.training_tokens(0.1)))


@both_tables
def test_the_sorted_loss_falls_as_the_sound_one_and_the_text_is_not_learnt(table):
    fault = catalogue()["token-sorting"]
    broken, healthy = (make(parts=TABLES[table]) for make in (fault.broken, fault.healthy))
    assert all((batch.targets >= batch.inputs).all() for batch in broken._epoch_batches(0))
    ours, sound = (each.run(epochs=fault.scenario.epochs).epoch_loss[-1] for each in (broken, healthy))
    assert ours == pytest.approx(sound, abs=0.1)
    assert loss_on_text(broken) > ours + 1.0
    assert loss_on_text(healthy) < sound


# Case.


def test_words_with_a_capital_get_the_id_of_their_hash_and_no_others_change():
    corpus = Corpus.from_text(TEXT)
    stream = case_sensitive_stream(corpus, 0.0, 0)
    assert stream.dtype == corpus.tokens.dtype
    for word, before, now in zip(TEXT.split(), corpus.tokens, stream, strict=True):
        expected = before if word == word.lower() else crc32(word.encode()) % corpus.vocab_size
        assert now == expected, word
    cut = case_sensitive_stream(corpus, 0.25, 0)
    np.testing.assert_array_equal(cut, stream[: len(corpus.training_tokens(0.25))])


def test_the_shipped_text_has_as_many_as_the_catalogue_says():
    stream = case_sensitive_stream(LARGE, 0.0, 0)
    capitals = np.array([word != word.lower() for word in LARGE.text.split()])
    changed = stream != LARGE.tokens
    assert not (changed & ~capitals).any()
    assert f"{capitals.sum()} of the 1,241 tokens" in catalogue()["case-mismatch"].signature
    assert capitals.sum() == changed.sum()  # no word hashed to its own row by chance
    assert len(set(stream.tolist())) < len(set(LARGE.tokens.tolist()))


@pytest.mark.parametrize("corpus", [load_corpus("large", "char"), LANGUAGE], ids=["char", "symbol"])
def test_a_corpus_that_is_not_in_words_is_refused(corpus):
    with pytest.raises(CorpusError, match="'case-mismatch' needs a corpus in lower-cased words"):
        case_sensitive_stream(corpus, 0.0, 0)


@both_tables
def test_the_loss_on_the_text_is_worse_for_it(table):
    fault = catalogue()["case-mismatch"]
    broken = fault.broken(parts=TABLES[table])
    reported = broken.run(epochs=fault.scenario.epochs).epoch_loss[-1]
    assert loss_on_text(broken) > reported + 0.3


# Batches.


@given(st.integers(10, 80), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(0, 5))
def test_whole_batches_are_the_first_pairs_of_the_text(n, batch_size, length, shuffle, epoch):
    tokens = np.arange(n, dtype=np.int32)
    per_batch = batch_size * length
    if n <= per_batch:
        with pytest.raises(ValueError, match=f"at least {per_batch + 1} are needed"):
            whole_batches(tokens, batch_size, length, shuffle, 0, epoch)
        return
    batches = whole_batches(tokens, batch_size, length, shuffle, 0, epoch)
    assert {batch.inputs.shape for batch in batches} == {(batch_size, length)}
    kept = (n - 1) // per_batch * per_batch
    assert sorted(pairs(batches)) == [(i, i + 1) for i in range(kept)]


def test_the_shipped_text_loses_its_last_88_targets():
    broken, healthy = (
        make() for make in (catalogue()["dropped-remainder"].broken, catalogue()["dropped-remainder"].healthy)
    )
    assert (broken.steps_per_epoch, healthy.steps_per_epoch) == (9, 11)
    counts = [sum(batch.targets.size for batch in each._epoch_batches(0)) for each in (broken, healthy)]
    assert counts == [1152, 1240] and counts[1] - counts[0] == 88


def test_batches_in_text_order_ignore_the_setting():
    tokens = np.arange(40, dtype=np.int32)
    orders = [pairs(batches_in_text_order(tokens, 2, 4, True, 3, epoch)) for epoch in (0, 1)]
    assert orders[0] == orders[1] == [(i, i + 1) for i in range(39)]
    assert pairs(epoch_batches(tokens, 2, 4, True, 3, 0)) != orders[0]


def test_unshifted_targets_are_the_inputs():
    tokens = np.random.default_rng(1).integers(0, 9, 40).astype(np.int32)
    sound = epoch_batches(tokens, *ARGUMENTS)
    for batch, healthy in zip(unshifted_batches(tokens, *ARGUMENTS), sound, strict=True):
        assert (batch.targets == batch.inputs).all() and (batch.inputs == healthy.inputs).all()
        assert not np.shares_memory(batch.inputs, batch.targets)


@given(st.integers(3, 60))
def test_targets_shifted_by_two_are_two_ahead(n):
    tokens = np.arange(n, dtype=np.int32) * 7
    assert sorted(pairs(batches_shifted_by_two(tokens, *ARGUMENTS))) == [
        (7 * i, 7 * i + 14) for i in range(n - 2)
    ]


def test_two_tokens_have_no_target_two_ahead():
    with pytest.raises(ValueError, match="need at least 3 tokens; got 2"):
        batches_shifted_by_two(np.array([1, 2], np.int32), *ARGUMENTS)


def test_shuffled_targets_are_the_same_tokens_in_other_places():
    tokens = np.arange(60, dtype=np.int32)
    sound = epoch_batches(tokens, *ARGUMENTS)
    broken = batches_with_shuffled_targets(tokens, *ARGUMENTS)
    for batch, healthy in zip(broken, sound, strict=True):
        assert (batch.inputs == healthy.inputs).all()
        assert sorted(batch.targets.flat) == sorted(healthy.targets.flat)
    assert pairs(broken) != pairs(sound)
    assert pairs(broken) == pairs(batches_with_shuffled_targets(tokens, *ARGUMENTS))


@both_tables
@pytest.mark.parametrize("name", ["unshifted-targets", "targets-shifted-by-two", "shuffled-targets"])
def test_wrong_targets_show_in_the_losses(name, table):
    fault = catalogue()[name]
    broken = fault.broken(parts=TABLES[table])
    reported, on_text = broken.run(epochs=fault.scenario.epochs).epoch_loss[-1], loss_on_text(broken)
    levels = broken.corpus.plateaus()
    if name == "unshifted-targets":
        assert reported < levels.bigram and on_text > levels.uniform
    elif name == "targets-shifted-by-two":
        assert reported < levels.unigram - 0.5 and on_text > reported + 1.0
    else:
        assert abs(reported - levels.unigram) < 0.1 and abs(on_text - levels.unigram) < 0.1
