import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.training.diagnostics import (
    NonFiniteError,
    first_non_finite_gradient,
    first_non_finite_value,
    gradient_statistics,
    max_gradient_magnitude,
    mean_magnitude,
    norm,
    sample_embedding_magnitude,
    weight_magnitudes,
)
from tests.training.machines import a_batch, make_model, make_trainer


@pytest.fixture
def params():
    """The parameters of a small machine, all 0."""
    return make_model(n_layers=2).params.like()


def test_weight_magnitudes(params):
    params.group("embedding")[:] = -0.012345
    params.group("attention")[:] = 0.0087654
    params.group("ff")[::2] = 0.0308642
    assert weight_magnitudes(params) == "Weight magnitudes: embed=0.012345, attn=0.008765, ff=0.015432"


def test_gradient_statistics(params):
    embedding, attention = params.group("embedding"), params.group("attention")
    embedding[:7] = -1.0
    embedding[7] = 2.0
    attention[-3:] = -0.00876
    average = 9.0 / embedding.size
    assert gradient_statistics(params) == (
        f"Gradients: embed=8 (max=2.00e+00, avg={average:.2e}), attn=3 (max=8.76e-03)"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradient_statistics_say_what_is_not_finite(params, bad):
    params.group("ln")[:2] = bad
    params.group("embedding")[5] = 3.0
    assert gradient_statistics(params).endswith("attn=0 (max=0.00e+00), not finite=2")
    params.group("attention")[0] = np.nan
    assert "attn=1 (max=nan), not finite=3" in gradient_statistics(params)


def test_the_format_hides_a_small_gradient_as_the_documents_did(params):
    params.group("embedding")[:] = 1e-7
    assert max_gradient_magnitude(params) == "Max gradient magnitude: 0.000000"
    params.group("embedding")[3] = -0.25
    assert max_gradient_magnitude(params) == "Max gradient magnitude: 0.250000"
    params.group("attention")[3] = 9.0
    assert max_gradient_magnitude(params) == "Max gradient magnitude: 0.250000"


def test_the_sample_is_the_first_hundred_numbers_of_the_embedding(params):
    flat = params["token_embedding"].ravel()
    assert flat.size > 100
    flat[:50] = -0.02469
    flat[100:] = 7.0
    assert sample_embedding_magnitude(params) == "Sample embedding magnitude: 0.012345"


def test_a_machine_without_attention_has_no_magnitudes_there():
    params = make_model(attention="none").params
    assert re.fullmatch(
        r"Weight magnitudes: embed=\d\.\d{6}, attn=0\.000000, ff=\d\.\d{6}", weight_magnitudes(params)
    )
    assert gradient_statistics(params.like()).endswith("attn=0 (max=0.00e+00)")
    assert mean_magnitude(params.group("attention")) == 0.0


@given(
    st.lists(st.floats(-(2.0**60), 2.0**60, width=32), max_size=30), st.sampled_from([np.float32, np.float64])
)
def test_norm_is_the_root_of_the_sum_of_squares(values, dtype):
    array = np.array(values, dtype)
    assert norm(array) == pytest.approx(math.hypot(*map(float, array)), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", 1e25), ("float32", 1e-30), ("float64", 1e200), ("float64", 1e-200)]
)
def test_norm_where_the_square_cannot_be_held(dtype, value):
    array = np.array([3 * value, 0.0, -4 * value], dtype)
    assert norm(array) == pytest.approx(5 * value, rel=1e-6)
    assert type(norm(array)) is float


def test_norm_of_nothing_of_zeros_and_of_what_is_not_finite():
    assert norm(np.zeros(0, np.float32)) == 0.0
    assert norm(np.zeros(5, np.float32)) == 0.0
    assert norm(np.array([1.0, np.inf], np.float32)) == math.inf
    assert math.isnan(norm(np.array([1.0, np.nan, 2.0], np.float32)))
    assert math.isnan(norm(np.array([np.inf, np.nan], np.float32)))


def test_the_first_value_that_is_not_finite_in_the_order_of_computation():
    model = make_model(n_layers=2)
    tokens, _ = a_batch(make_trainer(model))
    model.params["layers.1.w_qkv"][0, 0] = np.nan
    activations = model.forward(tokens)
    found = first_non_finite_value(activations, math.nan)
    assert found[:2] == ("layers.1.attention.qkv", "activation")
    bad = activations["layers.1.attention.qkv"]
    assert found[2] == f"{np.isnan(bad).sum()} NaN and 0 infinite of {bad.size}"


def test_where_every_activation_is_finite_it_is_the_loss():
    model = make_model()
    tokens, _ = a_batch(make_trainer(model))
    assert first_non_finite_value(model.forward(tokens), math.inf) == ("loss", "value", "inf")


BACKWARD = (
    "ln_final.gamma",
    "layers.1.w_ff2",
    "layers.1.b_ff2",
    "layers.1.w_ff1",
    "layers.1.b_ff1",
    "layers.1.ln2.gamma",
    "layers.1.w_out",
    "layers.1.b_out",
    "layers.1.w_qkv",
    "layers.1.b_qkv",
    "layers.1.ln1.beta",
    "layers.0.w_ff2",
    "layers.0.ln1.gamma",
    "token_embedding",
)


@pytest.mark.parametrize("place", range(len(BACKWARD)))
def test_the_first_gradient_that_is_not_finite_on_the_way_back(params, place):
    for name in BACKWARD[place:]:
        params[name].flat[0] = np.inf
    name, kind, value = first_non_finite_gradient(params)
    assert (name, kind) == (BACKWARD[place], "gradient")
    assert value == f"0 NaN and 1 infinite of {params[name].size}"


def test_every_tensor_has_its_place_on_the_way_back():
    for settings in ({}, {"tied": False, "norm": "post"}, {"attention": "none", "positions": "none"}):
        params = make_model(n_layers=2, **settings).params.like()
        for name in params:
            params.flat[:] = 0.0
            params[name].flat[-1] = np.nan
            assert first_non_finite_gradient(params)[0] == name


def test_finite_gradients_have_no_first_bad_one(params):
    with pytest.raises(ValueError, match="every gradient is finite"):
        first_non_finite_gradient(params)


def test_the_error_says_where_what_and_what_to_do():
    error = NonFiniteError(7, "layers.0.ff", "activation", "2 NaN and 0 infinite of 9")
    assert (error.step, error.tensor) == (7, "layers.0.ff")
    assert isinstance(error, ArithmeticError)
    assert str(error).startswith(
        "step 7: the first activation that is not finite is layers.0.ff (2 NaN and 0 infinite of 9)."
    )
    assert "Lower learning_rate, set clip_norm" in str(error)
