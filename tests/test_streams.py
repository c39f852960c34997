import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.streams import PURPOSES, check_seed, stream

seeds = st.integers(0, 2**128 - 1)
keys = st.tuples(seeds, st.sampled_from(PURPOSES), st.lists(st.integers(0, 2**32 - 1), max_size=3))


def draws(seed, purpose, indices):
    return stream(seed, purpose, *indices).integers(2**63, size=4).tolist()


def test_purposes_keep_their_names_and_places():
    assert PURPOSES == ("initialisation", "order", "dropout", "sampling", "language", "check", "lattice")


@given(keys)
def test_equal_arguments_give_equal_bits(key):
    assert draws(*key) == draws(*key)


@given(keys, keys)
def test_different_arguments_give_different_streams(one, other):
    assert (draws(*one) == draws(*other)) == (one == other)


@given(seeds)
def test_purposes_are_independent(seed):
    assert len({tuple(draws(seed, purpose, ())) for purpose in PURPOSES}) == len(PURPOSES)


def test_a_leading_zero_index_counts():
    assert draws(1, "order", (0,)) != draws(1, "order", ())
    assert draws(1, "order", (0, 0)) != draws(1, "order", (0,))


@pytest.mark.parametrize("power", [32, 64, 96, 127])
def test_every_word_of_a_long_seed_counts(power):
    assert draws(1 + 2**power, "order", ()) != draws(1, "order", ())


def test_bits_do_not_depend_on_the_integer_type():
    assert draws(np.uint8(7), "order", (np.int64(3),)) == draws(7, "order", (3,))


def test_the_generator_is_one_that_a_checkpoint_can_name():
    assert stream(0, "dropout").bit_generator.state["bit_generator"] == "PCG64"


def test_an_unknown_purpose_is_named_beside_those_that_exist():
    with pytest.raises(ValueError, match=r"initialisation, order.*'shuffling'"):
        stream(0, "shuffling")


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must be a non-negative integer.*{seed}"):
        stream(seed, "order")


@pytest.mark.parametrize("seed", [None, 1.0, "1", True, np.True_])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(TypeError, match="seed must be a non-negative integer"):
        check_seed(seed)


@pytest.mark.parametrize("index", [-1, 2**32])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=f"index 1 must be .*{index}"):
        stream(0, "order", 0, index)


def test_an_index_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="index 0"):
        stream(0, "order", 0.5)


def test_check_seed_returns_a_plain_int():
    assert type(check_seed(np.int32(5))) is int
