import numpy as np
import pytest

from cllm_lab.corpus.arguments import real_number, token_array, whole_number


@pytest.mark.parametrize("value", [3, np.int16(3), np.uint64(3)])
def test_whole_number_gives_a_plain_int(value):
    assert type(whole_number("n", value, 3)) is int
    assert whole_number("n", value, 3) == 3


def test_whole_number_names_argument_value_and_minimum():
    with pytest.raises(ValueError, match=r"^n must be at least 3, got 2$"):
        whole_number("n", 2, 3)


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.True_])
def test_whole_number_refuses_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"^n must be an integer, got "):
        whole_number("n", value, 0)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int8(1)])
def test_real_number_gives_a_plain_float(value):
    assert type(real_number("x", value)) is float
    assert real_number("x", value) == value


@pytest.mark.parametrize("value", ["1", None, True, np.False_, 1j])
def test_real_number_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"^x must be a number, got "):
        real_number("x", value)


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2], dtype=np.uint8), np.array([1, 2])])
def test_token_array_gives_int32(values):
    array = token_array("tokens", values)
    assert array.dtype == np.int32
    assert array.tolist() == [1, 2]


def test_token_array_takes_an_empty_list():
    assert token_array("tokens", []).dtype == np.int32
    assert token_array("tokens", []).shape == (0,)


def test_token_array_is_a_view_where_it_can_be():
    values = np.arange(4, dtype=np.int32)
    assert np.shares_memory(token_array("tokens", values), values)


@pytest.mark.parametrize("values", [[2**31], [-(2**31) - 1], np.array([2**63], dtype=np.uint64)])
def test_token_array_refuses_what_int32_cannot_hold(values):
    with pytest.raises(ValueError, match="tokens must fit into int32, got values from"):
        token_array("tokens", values)


@pytest.mark.parametrize("values", [5, [[1, 2]], np.zeros((0, 2), dtype=int)])
def test_token_array_refuses_other_shapes(values):
    with pytest.raises(ValueError, match="tokens must have one dimension, got shape"):
        token_array("tokens", values)


@pytest.mark.parametrize("values", [[1.0], ["a"], [True]])
def test_token_array_refuses_what_is_no_integer(values):
    with pytest.raises(TypeError, match="tokens must hold integers, got dtype"):
        token_array("tokens", values)


def test_token_array_counts():
    with pytest.raises(ValueError, match="tokens must hold at least 2 tokens, got 1"):
        token_array("tokens", [1], minimum_length=2)
