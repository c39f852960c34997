import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus.entropies import Plateaus, bigram_entropy, positional_entropy, unigram_entropy

ROUNDING = 1e-12  # sums of at most 200 terms of size 1

token_lists = st.lists(st.integers(0, 5), min_size=2, max_size=200)
lengths = st.integers(1, 250)


def entropy(events):
    """H of the relative frequencies of events, by definition."""
    counts = Counter(events)
    return -sum(n / len(events) * math.log(n / len(events)) for n in counts.values())


def conditional_entropy(contexts, nexts):
    """H(context, next) - H(context): the chain rule, another way than the one under test."""
    return entropy(list(zip(contexts, nexts, strict=True))) - entropy(contexts)


@given(token_lists)
def test_unigram_by_definition(tokens):
    assert unigram_entropy(tokens) == pytest.approx(entropy(tokens), abs=ROUNDING)


@given(token_lists)
def test_bigram_by_the_chain_rule(tokens):
    expected = conditional_entropy(tokens[:-1], tokens[1:])
    assert bigram_entropy(tokens) == pytest.approx(expected, abs=ROUNDING)


@given(token_lists, lengths)
def test_positional_by_the_chain_rule(tokens, sequence_length):
    contexts = []
    for start in range(0, len(tokens) - 1, sequence_length):
        window = tokens[:-1][start : start + sequence_length]
        contexts += [(token, position) for position, token in enumerate(window)]
    expected = conditional_entropy(contexts, tokens[1:])
    assert positional_entropy(tokens, sequence_length) == pytest.approx(expected, abs=ROUNDING)


@given(token_lists, lengths)
def test_knowing_more_never_raises_the_entropy(tokens, sequence_length):
    targets = tokens[1:]
    levels = [
        0.0,
        positional_entropy(tokens, sequence_length),
        bigram_entropy(tokens),
        unigram_entropy(targets),
        math.log(len(set(targets))),
    ]
    assert levels[1] >= 0
    assert all(low <= high + ROUNDING for low, high in itertools.pairwise(levels))


@given(token_lists)
def test_windows_of_one_pair_have_one_position(tokens):
    assert positional_entropy(tokens, 1) == bigram_entropy(tokens)


@given(token_lists)
def test_one_window_over_all_leaves_nothing_unknown(tokens):
    assert positional_entropy(tokens, len(tokens) - 1) == 0
    assert positional_entropy(tokens, 10**30) == 0


@given(token_lists, lengths, st.permutations(range(6)))
def test_names_of_tokens_do_not_matter(tokens, sequence_length, names):
    renamed = np.array([1000 * names[token] - 7 for token in tokens])
    assert unigram_entropy(renamed) == pytest.approx(unigram_entropy(tokens), abs=ROUNDING)
    assert bigram_entropy(renamed) == pytest.approx(bigram_entropy(tokens), abs=ROUNDING)
    expected = positional_entropy(tokens, sequence_length)
    assert positional_entropy(renamed, sequence_length) == pytest.approx(expected, abs=ROUNDING)


def test_values_computed_by_hand():
    tokens = [0, 1, 0, 2, 0, 1, 0, 2, 0]
    # Targets: 1 0 2 0 1 0 2 0; a 0 is followed by 1 or 2 equally often, anything else by 0.
    assert unigram_entropy(tokens[1:]) == pytest.approx(1.5 * math.log(2))
    assert bigram_entropy(tokens) == pytest.approx(0.5 * math.log(2))
    assert positional_entropy(tokens, 2) == pytest.approx(0.5 * math.log(2))
    assert positional_entropy(tokens, 4) == 0


def test_the_short_last_window_starts_again_at_position_0():
    # Inputs 0 0 0 | 0 1: at position 0 a 0 is followed by 0 and by 1, so 2 of 5 pairs cost ln 2.
    assert positional_entropy([0, 0, 0, 0, 1, 0], 3) == pytest.approx(2 / 5 * math.log(2))


def test_large_ids_do_not_overflow_the_combined_key():
    tokens = np.array([2**31 - 1, 0, 2**31 - 1, 5] * 50, dtype=np.int32)
    small = np.array([9, 0, 9, 5] * 50, dtype=np.int32)
    assert positional_entropy(tokens, 7) == positional_entropy(small, 7)
    assert bigram_entropy(tokens) == bigram_entropy(small)


@given(st.lists(st.sampled_from([0, 1]), min_size=2, max_size=50))
def test_ids_that_coincide_modulo_a_machine_word_stay_apart(tokens):
    # 4 positions times the id 2**30 is 2**32, which 32-bit arithmetic cannot tell from 0.
    spread = [token * 2**30 for token in tokens]
    assert positional_entropy(spread, 4) == positional_entropy(tokens, 4)


@pytest.mark.parametrize("measure", [bigram_entropy, lambda tokens: positional_entropy(tokens, 4)])
def test_pairs_need_two_tokens(measure):
    with pytest.raises(ValueError, match="tokens must hold at least 2"):
        measure([3])


def test_no_targets_are_refused():
    with pytest.raises(ValueError, match="targets must hold at least 1"):
        unigram_entropy([])


@pytest.mark.parametrize(("length", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError)])
def test_a_window_needs_a_length(length, error):
    with pytest.raises(error, match="sequence_length"):
        positional_entropy([1, 2, 3], length)


def test_plateaus_cannot_be_changed():
    plateaus = Plateaus(uniform=2.0, unigram=1.5, bigram=1.0)
    assert plateaus.positional is None
    with pytest.raises(AttributeError):
        plateaus.unigram = 0.0
