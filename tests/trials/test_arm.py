"""Arms become configurations, with the baseline's number of parameters."""

import pytest

from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.trials.arm import Arm, equal_parameters, machine, parameter_count, require_arms

BASELINE = ModelConfig(vocab_size=32, context_length=32, d_model=32, n_heads=4, n_layers=2)


def config(**fields):
    return ModelConfig(vocab_size=32, context_length=32, d_model=32, n_heads=4, n_layers=2, **fields)


def test_an_arm_lies_over_the_common_settings():
    arm = Arm("wide", {"d_model": 24, "n_heads": 3}, {"optimizer": "sgd"})
    model, train = machine(arm, 9, {"d_model": 16, "n_layers": 1}, {"batch_size": 2, "optimizer": "adam"})
    assert (model.vocab_size, model.d_model, model.n_heads, model.n_layers) == (9, 24, 3, 1)
    assert (train.batch_size, train.optimizer) == (2, "sgd")


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (Arm("odd", {"d_modle": 3}), "arm 'odd': ModelConfig has no field d_modle; it has vocab_size"),
        (Arm("odd", train={"rate": 3}), "arm 'odd': TrainConfig has no field rate"),
        (Arm("odd", {"d_model": 30}), "arm 'odd': n_heads=4 does not divide d_model=30"),
        (Arm("odd", seeded=("sead",)), "arm 'odd': ModelConfig has no field sead"),
    ],
)
def test_a_setting_that_cannot_work_names_its_arm(arm, message):
    with pytest.raises(ConfigError, match=message):
        machine(arm, 9, {}, {})


@pytest.mark.parametrize(("name", "model"), [("", {}), (3, {}), ("odd", ["d_model"])])
def test_an_arm_needs_a_name_and_mappings(name, model):
    with pytest.raises(ConfigError, match=r"name must be a text|model must map fields"):
        Arm(name, model)


def test_the_count_is_that_of_the_machine():
    assert parameter_count(BASELINE) == Transformer(BASELINE).params.flat.size


CHANGES = [
    {"attention": "none"},
    {"positions": "none"},
    {"positions": "sinusoidal"},
    {"tied": False},
    {"keys": "rotated"},
    {"attention_bias": "phase"},
    {"d_ff": 300},
]


@pytest.mark.parametrize("fields", CHANGES)
def test_equal_parameters_within_half_a_percent(fields):
    found = equal_parameters(config(**fields), BASELINE)
    wanted = parameter_count(BASELINE)
    assert abs(parameter_count(found) - wanted) <= 0.005 * wanted
    for width in (found.width_ff - 1, found.width_ff + 1):
        other = config(**{**fields, "d_ff": width})
        assert abs(parameter_count(other) - wanted) >= abs(parameter_count(found) - wanted)


def test_equal_parameters_refuses_what_no_width_can_make_up_for():
    with pytest.raises(ConfigError, match="d_ff=1 there are"):
        equal_parameters(ModelConfig(vocab_size=4000, d_model=32), BASELINE)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([Arm("a"), Arm("a")], "two arms are called 'a'"),
        ([Arm("baseline")], "two arms are called 'baseline'"),
        (
            [Arm("a"), Arm("b", control_of="c")],
            "arm 'b' controls 'c', which is no other arm here; there is 'a'",
        ),
        ([Arm("a"), Arm("b", control_of="b")], "arm 'b' controls 'b'"),
        ([Arm("a"), Arm("b", control_of=("a", "baseline"))], "arm 'b' controls 'baseline'"),
    ],
)
def test_names_tell_arms_apart_and_controls_refer_to_arms(arms, message):
    with pytest.raises(ConfigError, match=message):
        require_arms(arms, Arm("baseline"))


def test_arms_are_arms():
    with pytest.raises(TypeError, match="arms must be Arm; got dict"):
        require_arms([{"name": "a"}], Arm("baseline"))
