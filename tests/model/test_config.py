import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.model.config import CHOICES, ConfigError, ModelConfig

COUNTS = {"vocab_size": 2, "context_length": 1, "d_model": 1, "n_heads": 1, "n_layers": 1, "d_ff": 1}


def test_the_default_machine():
    config = ModelConfig(vocab_size=611)
    assert (config.norm, config.attention, config.positions) == ("pre", "multi-head", "learned")
    assert (config.activation, config.tied, config.dropout, config.init) == ("tanh", True, 0.0, "xavier")


def test_widths_that_follow_from_others():
    config = ModelConfig(vocab_size=5, d_model=24, n_heads=3)
    assert (config.d_ff, config.width_ff, config.d_head) == (96, 96, 8)
    assert ModelConfig(vocab_size=5, d_model=24, n_heads=3, d_ff=7).width_ff == 7


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(vocab_size=5).d_model = 8


@given(d_model=st.integers(1, 60), n_heads=st.integers(1, 60))
def test_heads_must_divide_the_width_and_the_error_lists_those_that_do(d_model, n_heads):
    if d_model % n_heads == 0:
        config = ModelConfig(vocab_size=5, d_model=d_model, n_heads=n_heads)
        assert config.d_head * config.n_heads == d_model
        return
    with pytest.raises(ConfigError) as caught:
        ModelConfig(vocab_size=5, d_model=d_model, n_heads=n_heads)
    text = str(caught.value)
    assert f"n_heads={n_heads}" in text
    assert f"d_model={d_model}" in text
    for offered in map(int, text.split("these do: ")[1].split(", ")):
        ModelConfig(vocab_size=5, d_model=d_model, n_heads=offered)


@pytest.mark.parametrize(("field", "minimum"), COUNTS.items())
@pytest.mark.parametrize("wrong", [0, -3, 2.0, "8", True, float("nan"), [4]])
def test_sizes_are_whole_numbers(field, minimum, wrong):
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**{"vocab_size": 5, field: wrong})
    assert str(caught.value) == f"{field} must be a whole number of at least {minimum}; got {wrong!r}"


@pytest.mark.parametrize("field", COUNTS)
def test_sizes_counted_by_numpy_become_plain_numbers(field):
    config = ModelConfig(**{"vocab_size": 5, field: np.int64(4)})
    assert type(getattr(config, field)) is int
    assert config == ModelConfig(**{"vocab_size": 5, field: 4})


def test_one_word_is_no_vocabulary():
    with pytest.raises(ConfigError, match="vocab_size must be a whole number of at least 2; got 1"):
        ModelConfig(vocab_size=1)


@pytest.mark.parametrize(("field", "allowed"), CHOICES.items())
@pytest.mark.parametrize("wrong", ["nonesuch", None, 3, ["pre"]])
def test_a_choice_that_does_not_exist(field, allowed, wrong):
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**{"vocab_size": 5, field: wrong})
    text = str(caught.value)
    assert text.startswith(f"{field} must be one of ")
    assert text.endswith(f"; got {wrong!r}")
    assert all(repr(choice) in text for choice in allowed)


@pytest.mark.parametrize(("field", "choice"), [(f, c) for f, choices in CHOICES.items() for c in choices])
def test_every_choice_is_accepted(field, choice):
    assert getattr(ModelConfig(**{"vocab_size": 5, field: choice}), field) == choice


@pytest.mark.parametrize("wrong", [1, 0, "yes", None])
def test_tied_is_a_truth_value(wrong):
    with pytest.raises(ConfigError, match=f"tied must be True or False; got {wrong!r}"):
        ModelConfig(vocab_size=5, tied=wrong)


@pytest.mark.parametrize("wrong", [1, 1.0, -0.1, 50])
def test_dropout_is_a_share_below_one(wrong):
    with pytest.raises(ConfigError, match=f"dropout must be at least 0 and below 1; got {wrong!r}"):
        ModelConfig(vocab_size=5, dropout=wrong)


@pytest.mark.parametrize("wrong", [0, 0.0, -1e-5])
def test_norm_epsilon_is_positive(wrong):
    with pytest.raises(ConfigError, match=f"norm_epsilon must be above 0; got {wrong!r}"):
        ModelConfig(vocab_size=5, norm_epsilon=wrong)


@pytest.mark.parametrize("field", ["dropout", "norm_epsilon", "init_value"])
@pytest.mark.parametrize("wrong", ["0.1", float("nan"), float("inf"), True, [0.1]])
def test_quantities_are_finite_numbers(field, wrong):
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**{"vocab_size": 5, "init": "constant", field: wrong})
    assert str(caught.value) == f"{field} must be a finite number; got {wrong!r}"


@pytest.mark.parametrize("field", ["dropout", "norm_epsilon"])
def test_quantities_are_never_none(field):
    with pytest.raises(ConfigError, match=f"{field} must be a finite number; got None"):
        ModelConfig(**{"vocab_size": 5, field: None})


@pytest.mark.parametrize("init", ["xavier", "he", "zeros"])
def test_init_value_belongs_to_the_initialisers_that_take_one(init):
    with pytest.raises(
        ConfigError, match=f"init_value=0.5 has no meaning for init='{init}'.*'normal' and 'const"
    ):
        ModelConfig(vocab_size=5, init=init, init_value=0.5)


def test_a_deviation_is_not_negative_but_a_constant_may_be():
    with pytest.raises(ConfigError, match=r"init_value is the standard deviation .* at least 0; got -0\.1"):
        ModelConfig(vocab_size=5, init="normal", init_value=-0.1)
    assert ModelConfig(vocab_size=5, init="constant", init_value=-0.1).init_value == -0.1


def test_sinusoids_come_in_pairs():
    with pytest.raises(ConfigError, match=r"positions='sinusoidal'.* d_model must be even; got 9"):
        ModelConfig(vocab_size=5, d_model=9, n_heads=3, positions="sinusoidal")


def test_a_configuration_error_is_a_value_error():
    assert issubclass(ConfigError, ValueError)
