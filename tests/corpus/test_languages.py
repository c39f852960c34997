import inspect
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.corpus import languages
from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.corpus.entropies import bigram_entropy, positional_entropy, unigram_entropy
from cllm_lab.corpus.languages import ConstantLanguage, InductionLanguage, MarkovLanguage
from cllm_lab.corpus.source import CorpusError

ENDLESS = pytest.mark.parametrize(
    "language", [MarkovLanguage(seed=3), InductionLanguage(seed=3)], ids=["m", "i"]
)


def chi_square_bound(degrees_of_freedom):
    """Exceeded with chance 1e-9 or less: P(X > k + 2 sqrt(kt) + 2t) <= e^-t (Laurent and Massart 2000)."""
    t = math.log(1e9)
    return degrees_of_freedom + 2 * math.sqrt(degrees_of_freedom * t) + 2 * t


def likelihood_ratio(counts, probabilities):
    """G = 2 sum n ln(n / (n_row p)) along rows; chi-square with (columns - 1) degrees of freedom a row."""
    counts = np.atleast_2d(counts)
    expected = counts.sum(axis=1, keepdims=True) * np.atleast_2d(probabilities)
    seen = counts > 0
    return 2 * float(np.sum(counts[seen] * np.log(counts[seen] / expected[seen])))


@pytest.mark.parametrize(
    ("language", "parameters"),
    [
        (MarkovLanguage, ["n_symbols", "seed", "concentration", "n_tokens"]),
        (InductionLanguage, ["n_symbols", "block_length", "seed", "n_tokens"]),
        (ConstantLanguage, ["n_symbols", "n_tokens"]),
    ],
)
def test_constructors_take_their_arguments_in_the_documented_order(language, parameters):
    assert list(inspect.signature(language).parameters) == parameters


def test_symbols_are_short_distinct_words():
    vocabulary = ConstantLanguage(n_symbols=26 + 26**2 + 1).vocabulary
    assert vocabulary[:3] == ("a", "b", "c")
    assert vocabulary[25:28] == ("z", "aa", "ab")
    assert vocabulary[-2:] == ("zz", "aaa")
    assert len(set(vocabulary)) == len(vocabulary)


@settings(max_examples=50)
@given(
    st.one_of(
        st.builds(
            MarkovLanguage,
            n_symbols=st.integers(2, 40),
            seed=st.integers(0, 2**64),
            concentration=st.floats(0.1, 1e6),
            n_tokens=st.integers(2, 200),
        ),
        st.builds(
            InductionLanguage,
            n_symbols=st.integers(2, 40),
            block_length=st.integers(2, 30),
            seed=st.integers(0, 2**64),
            n_tokens=st.integers(2, 200),
        ),
        st.builds(ConstantLanguage, n_symbols=st.integers(2, 40), n_tokens=st.integers(2, 200)),
    )
)
def test_any_language_is_a_sound_corpus(language):
    assert language.tokens.dtype == np.int32
    assert language.tokens.shape == (language.n_tokens,)
    assert not language.tokens.flags.writeable
    assert 0 <= language.tokens.min() <= language.tokens.max() < language.n_symbols
    assert language.vocab_size == language.n_symbols
    assert language.special_ids == ()
    assert language.encode(language.text).tolist() == language.tokens.tolist()
    plateaus = language.plateaus(sequence_length=7)
    assert plateaus.uniform == math.log(language.n_symbols)
    assert 0 <= plateaus.positional <= plateaus.bigram <= plateaus.unigram + 1e-12
    assert plateaus.unigram <= plateaus.uniform + 1e-12
    assert language.entropy_rate <= plateaus.positional
    assert language == type(language)(*(getattr(language, name) for name in language.parameter_names()))


@ENDLESS
def test_endless_languages_are_new_each_epoch_and_repeatable(language):
    assert language.endless
    streams = [language.training_tokens(epoch=epoch) for epoch in range(4)]
    assert streams[0].tolist() == language.tokens.tolist()
    assert len({tuple(tokens.tolist()) for tokens in streams}) == 4
    again = type(language)(seed=3)
    assert [tokens.tolist() for tokens in streams] == [
        again.training_tokens(epoch=epoch).tolist() for epoch in range(4)
    ]
    assert type(language)(seed=4).tokens.tolist() != language.tokens.tolist()
    assert all(not tokens.flags.writeable and tokens.dtype == np.int32 for tokens in streams)


@ENDLESS
def test_endless_languages_validate_on_a_stream_of_their_own(language):
    held_out = language.validation_tokens(0.25)
    assert held_out.dtype == np.int32
    assert not held_out.flags.writeable
    assert len(held_out) == round(0.25 * language.n_tokens)
    assert held_out.tolist() == language.validation_tokens(0.25).tolist()
    for epoch in range(20):
        training = language.training_tokens(0.25, epoch)
        assert len(training) == language.n_tokens
        assert held_out.tolist() != training[: len(held_out)].tolist()


@ENDLESS
@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan"), 1e-9])
def test_endless_languages_check_the_fraction(language, fraction):
    with pytest.raises(CorpusError, match="validation_fraction"):
        language.training_tokens(fraction)
    with pytest.raises(CorpusError, match="validation_fraction"):
        language.validation_tokens(fraction)


def test_an_endless_language_may_hold_out_nearly_as_much_as_an_epoch():
    language = MarkovLanguage(n_tokens=4)
    assert len(language.validation_tokens(0.75)) == 3
    assert len(language.training_tokens(0.75)) == 4


@ENDLESS
def test_endless_languages_check_the_epoch(language):
    with pytest.raises(ValueError, match="epoch"):
        language.training_tokens(epoch=-1)
    with pytest.raises(CorpusError, match="holds nothing out"):
        language.validation_tokens(0.0)


def test_languages_cannot_be_changed():
    language = MarkovLanguage()
    with pytest.raises(AttributeError):
        language.seed = 1
    with pytest.raises(ValueError, match="read-only"):
        language.transitions[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        language.stationary[0] = 1.0


# Markov


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(0, 2**32), st.floats(0.1, 100))
def test_markov_entropies_by_definition(n_symbols, seed, concentration):
    language = MarkovLanguage(n_symbols, seed, concentration, n_tokens=2)
    joint = language.stationary[:, np.newaxis] * language.transitions
    assert language.transitions.sum(axis=1) == pytest.approx(np.ones(n_symbols))
    assert joint.sum(axis=0) == pytest.approx(language.stationary, rel=1e-9)
    assert language.stationary.sum() == pytest.approx(1)

    def entropy(probabilities):
        return -sum(p * math.log(p) for p in probabilities.ravel().tolist() if p > 0)

    plateaus = language.plateaus(sequence_length=5)
    assert plateaus.unigram == pytest.approx(entropy(language.stationary), abs=1e-9)
    assert plateaus.bigram == pytest.approx(entropy(joint) - entropy(language.stationary), abs=1e-9)
    assert plateaus.positional == plateaus.bigram == language.entropy_rate


@pytest.mark.parametrize("n_symbols", [2, 8])
def test_every_transition_is_possible_at_the_smallest_concentration(n_symbols):
    for seed in range(300):
        language = MarkovLanguage(n_symbols, seed, concentration=0.1, n_tokens=2)
        assert (language.transitions > 0).all()
        assert (language.stationary > 0).all()


def test_stationary_distribution_of_a_chain_that_nearly_falls_apart():
    rare = 1e-13
    chain = np.array([[1 - rare, rare], [2 * rare, 1 - 2 * rare]])
    assert languages._stationary_distribution(chain) == pytest.approx([2 / 3, 1 / 3], rel=1e-14)


def test_markov_samples_follow_the_transition_matrix():
    language = MarkovLanguage(n_symbols=5, seed=1, concentration=1.0, n_tokens=50_000)
    counts = np.zeros((5, 5))
    np.add.at(counts, (language.tokens[:-1], language.tokens[1:]), 1)
    assert likelihood_ratio(counts, language.transitions) < chi_square_bound(5 * 4)
    assert likelihood_ratio(counts, np.roll(language.transitions, 1, axis=0)) > chi_square_bound(5 * 4)


def test_markov_streams_start_from_the_stationary_distribution():
    language = MarkovLanguage(n_symbols=5, seed=1, concentration=1.0, n_tokens=2)
    firsts = [int(language.training_tokens(epoch=epoch)[0]) for epoch in range(2000)]
    counts = np.bincount(firsts, minlength=5)
    assert likelihood_ratio(counts, language.stationary) < chi_square_bound(4)
    assert likelihood_ratio(counts, np.full(5, 1 / 5)) > chi_square_bound(4)


def test_position_tells_nothing_in_a_markov_chain():
    n_symbols, length = 4, 6
    language = MarkovLanguage(n_symbols, seed=1, concentration=1.0, n_tokens=50_000)
    gain = bigram_entropy(language.tokens) - positional_entropy(language.tokens, length)
    degrees_of_freedom = (length - 1) * n_symbols * (n_symbols - 1)
    assert 2 * (language.n_tokens - 1) * gain < chi_square_bound(degrees_of_freedom)


def test_concentration_sets_how_certain_the_next_symbol_is():
    rates = [MarkovLanguage(n_symbols=20, concentration=c).entropy_rate for c in (0.1, 0.3, 1.0, 10.0, 1e6)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(math.log(20), abs=1e-5)


def test_rounding_never_draws_a_symbol_that_does_not_exist():
    sums = languages._cumulative(np.full((2, 10), 0.1))
    assert (sums[:, -1] == 1.0).all()


# Induction


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 100))
def test_induction_repeats_each_block_once(n_symbols, block_length, n_tokens):
    tokens = InductionLanguage(n_symbols, block_length, seed=0, n_tokens=n_tokens).tokens
    for start in range(0, n_tokens, 2 * block_length):
        period = tokens[start : start + 2 * block_length]
        copy = period[block_length:]
        assert copy.tolist() == period[: len(copy)].tolist()


@pytest.mark.parametrize("block_length", [2, 3, 8])
@pytest.mark.parametrize("length", [1, 5, 16])
def test_induction_entropies_in_a_long_sample(block_length, length):
    n_symbols = 4
    language = InductionLanguage(n_symbols, block_length, seed=1, n_tokens=160_001)
    plateaus = language.plateaus(sequence_length=length)
    assert (
        plateaus.unigram == plateaus.bigram == plateaus.positional == plateaus.uniform == math.log(n_symbols)
    )

    # 2 N (ln n - H) of N independent pairs is chi-square. Each draw stands in the stream twice, which at most
    # doubles the statistic.
    pairs = language.n_tokens - 1
    cells = n_symbols * (n_symbols - 1)
    for measured, degrees_of_freedom in (
        (unigram_entropy(language.tokens[1:]), n_symbols - 1),
        (bigram_entropy(language.tokens), cells),
        (positional_entropy(language.tokens, length), cells * length),
    ):
        tolerance = 2 * chi_square_bound(degrees_of_freedom) / (2 * pairs)
        assert tolerance < 0.005 * math.log(n_symbols)
        assert math.log(n_symbols) - tolerance < measured <= math.log(n_symbols) + 1e-12


@pytest.mark.parametrize(
    ("n_symbols", "block_length", "periods"), [(2, 2, 1), (2, 2, 2), (3, 2, 2), (2, 3, 2)]
)
def test_induction_floor_by_enumeration(n_symbols, block_length, periods):
    length = 2 * block_length * periods
    windows = []
    for symbols in itertools.product(range(n_symbols), repeat=block_length * (periods + 1)):
        blocks = [symbols[start : start + block_length] for start in range(0, len(symbols), block_length)]
        stream = tuple(symbol for block in blocks for symbol in block + block)
        windows.append(stream[: length + 1])

    def history_entropy(n_seen):
        counts = Counter(window[:n_seen] for window in windows)
        return -sum(n / len(windows) * math.log(n / len(windows)) for n in counts.values())

    # H(s_t | s_0 ... s_t-1) summed over the targets t = 1 ... T telescopes.
    least_mean_loss = (history_entropy(length + 1) - history_entropy(1)) / length
    language = InductionLanguage(n_symbols, block_length)
    assert language.floor(length) == pytest.approx(least_mean_loss, abs=1e-12)
    assert language.floor(length) == pytest.approx(language.entropy_rate, abs=1e-12)


def test_a_predictor_that_copies_reaches_the_induction_floor():
    language = InductionLanguage(n_symbols=16, block_length=4, seed=2, n_tokens=64 * 16 + 1)
    length, block = 16, language.block_length
    losses = []
    for batch in epoch_batches(language.tokens, 4, length, shuffle=True, seed=0, epoch=0):
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            for offset, target in enumerate(targets, start=1):
                is_copy = offset % (2 * block) >= block
                if is_copy:
                    assert inputs[offset - block] == target
                losses.append(0.0 if is_copy else math.log(language.n_symbols))
    assert len(losses) == language.n_tokens - 1
    assert np.mean(losses) == pytest.approx(language.floor(length), rel=1e-12)


@pytest.mark.parametrize(("length", "advice"), [(8, "use 16$"), (24, "use 16 or 32$"), (17, "use 16 or 32$")])
def test_induction_floor_needs_whole_periods(length, advice):
    with pytest.raises(ValueError, match=rf"2 \* block_length = 16, got {length}; {advice}"):
        InductionLanguage(block_length=8).floor(length)


@pytest.mark.parametrize(("length", "error"), [(0, ValueError), (-16, ValueError), (16.0, TypeError)])
def test_induction_floor_needs_a_length(length, error):
    with pytest.raises(error, match="sequence_length"):
        InductionLanguage(block_length=8).floor(length)


# Constant


def test_constant_language_has_one_symbol_and_no_entropy():
    language = ConstantLanguage(n_symbols=7, n_tokens=100)
    assert set(language.tokens.tolist()) == {0}
    plateaus = language.plateaus(sequence_length=10)
    assert (plateaus.unigram, plateaus.bigram, plateaus.positional) == (0, 0, 0)
    assert plateaus.unigram == unigram_entropy(language.tokens[1:])
    assert plateaus.uniform == math.log(7)
    assert language.entropy_rate == 0
    assert not language.endless
    assert len(language.validation_tokens(0.25)) == 25
    assert len(language.training_tokens(0.25)) == 75


@pytest.mark.parametrize(
    ("make", "name", "error"),
    [
        (lambda: MarkovLanguage(n_symbols=1), "n_symbols", ValueError),
        (lambda: MarkovLanguage(n_symbols=2.0), "n_symbols", TypeError),
        (lambda: MarkovLanguage(n_tokens=1), "n_tokens", ValueError),
        (lambda: MarkovLanguage(seed=-1), "seed", ValueError),
        (lambda: MarkovLanguage(seed=None), "seed", TypeError),
        (lambda: MarkovLanguage(concentration=0.09), "concentration", ValueError),
        (lambda: MarkovLanguage(concentration=float("nan")), "concentration", ValueError),
        (lambda: MarkovLanguage(concentration=1e7), "concentration", ValueError),
        (lambda: MarkovLanguage(concentration="1"), "concentration", TypeError),
        (lambda: InductionLanguage(n_symbols=1), "n_symbols", ValueError),
        (lambda: InductionLanguage(block_length=1), "block_length", ValueError),
        (lambda: InductionLanguage(block_length=2.5), "block_length", TypeError),
        (lambda: InductionLanguage(n_tokens=0), "n_tokens", ValueError),
        (lambda: InductionLanguage(seed=-1), "seed", ValueError),
        (lambda: ConstantLanguage(n_symbols=1), "n_symbols", ValueError),
        (lambda: ConstantLanguage(n_tokens=1), "n_tokens", ValueError),
    ],
)
def test_a_bad_parameter_is_named(make, name, error):
    with pytest.raises(error, match=name):
        make()
