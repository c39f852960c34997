import dataclasses
import json

import numpy as np
import pytest

from cllm_lab.model.config import ConfigError
from cllm_lab.training.config import OPTIMIZERS, PENALTIES, SCHEDULES, TrainConfig

NAN, INF = float("nan"), float("inf")
NOT_WHOLE = (0, -1, 2.0, "4", True, NAN, [4])
NOT_NUMBERS = ("0.1", True, NAN, INF, -INF, [0.1], 1j)

COUNT = "must be a whole number of at least 1"
COUNT_FROM_0 = "must be a whole number of at least 0"
FROM_0 = "must be a finite number of at least 0"
ABOVE_0 = "must be a finite number above 0"
SHARE = "must be a finite number of at least 0 and below 1"

# field -> (what is said of a wrong value, wrong values)
WRONG = {
    "batch_size": (COUNT, (*NOT_WHOLE, None)),
    "sequence_length": (COUNT, (*NOT_WHOLE, None)),
    "accumulate": (COUNT, (*NOT_WHOLE, None)),
    "total_steps": (COUNT, NOT_WHOLE),
    "validate_every": (COUNT, NOT_WHOLE),
    "warmup_steps": (COUNT_FROM_0, (-1, 2.0, "4", True, None)),
    "seed": (COUNT_FROM_0, (-1, 2.0, "4", True, None)),
    "optimizer": ("must be one of 'sgd', 'momentum', 'adam', 'adam-epsilon-hat', 'adamw'", ("Adam", None, 3)),
    "schedule": ("must be one of 'constant', 'cosine', 'step'", ("linear", None, 3)),
    "learning_rate": (FROM_0, (*NOT_NUMBERS, -1e-9, None)),
    "min_learning_rate": (FROM_0, (*NOT_NUMBERS, -1e-9, None)),
    "clip_norm": (f"{ABOVE_0}, or None for no clipping", (*NOT_NUMBERS, 0, 0.0, -1.0)),
    "validation_fraction": (SHARE, (*NOT_NUMBERS, -0.1, 1.0, 1, None)),
    "shuffle": ("must be True or False", (1, "yes", None)),
    "momentum": (SHARE, (*NOT_NUMBERS, -0.1, 1.0, None)),
    "betas": ("must be two numbers", (0.9, (0.9,), (0.9, 0.99, 0.999), None, "ab", {0.9, 0.99})),
    "epsilon": (ABOVE_0, (*NOT_NUMBERS, 0, 0.0, -1e-8, None)),
    **{f"{name}_penalty": (FROM_0, (*NOT_NUMBERS, -1e-9, None)) for name in PENALTIES},
}


@pytest.mark.parametrize(("field", "said", "wrong"), [(f, s, w) for f, (s, ws) in WRONG.items() for w in ws])
def test_a_wrong_value_is_refused_with_field_value_and_what_would_work(field, said, wrong):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{field: wrong})
    assert str(caught.value) == f"{field} {said}; got {wrong!r}"


def test_no_field_is_left_out():
    assert {*WRONG, "weight_decay"} == {field.name for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize("wrong", [1.0, 1, -0.1, "x", NAN, True])
@pytest.mark.parametrize("place", [0, 1])
def test_each_beta_is_a_share(place, wrong):
    betas = [0.5, 0.5]
    betas[place] = wrong
    with pytest.raises(ConfigError) as caught:
        TrainConfig(betas=tuple(betas))
    assert str(caught.value) == f"betas {SHARE}; got {wrong!r}"


@pytest.mark.parametrize("wrong", [*NOT_NUMBERS, -0.1])
def test_weight_decay_is_a_number_from_0(wrong):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(optimizer="adamw", weight_decay=wrong)
    assert str(caught.value) == f"weight_decay {FROM_0}; got {wrong!r}"


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adamw"])
def test_weight_decay_belongs_to_adamw(optimizer):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(optimizer=optimizer, weight_decay=0.1)
    assert str(caught.value) == f"weight_decay=0.1 belongs to optimizer='adamw'; got {optimizer!r}"


def test_weight_decay_of_adamw():
    assert TrainConfig(optimizer="adamw").decay == 0.01
    assert TrainConfig(optimizer="adamw", weight_decay=0.3).decay == 0.3
    assert TrainConfig(optimizer="adamw", weight_decay=0).decay == 0.0


def test_the_floor_is_not_above_the_peak():
    with pytest.raises(ConfigError, match=r"^min_learning_rate=0\.2 is above learning_rate=0\.1$"):
        TrainConfig(learning_rate=0.1, min_learning_rate=0.2)
    assert TrainConfig(learning_rate=0.1, min_learning_rate=0.1).min_learning_rate == 0.1


@pytest.mark.parametrize("warmup", [10, 11])
def test_warm_up_ends_before_the_horizon(warmup):
    with pytest.raises(ConfigError, match=rf"^warmup_steps={warmup} must be below total_steps=10$"):
        TrainConfig(warmup_steps=warmup, total_steps=10)
    assert TrainConfig(warmup_steps=9, total_steps=10).warmup_steps == 9


def test_a_seed_beyond_what_a_stream_takes():
    with pytest.raises(ConfigError, match="seed must be a non-negative integer below 2\\*\\*128"):
        TrainConfig(seed=2**128)
    assert TrainConfig(seed=2**128 - 1).seed == 2**128 - 1


def test_the_defaults_that_others_rely_on():
    promised = {
        "batch_size": 4,
        "sequence_length": 32,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "clip_norm": 1.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "min_learning_rate": 0.0,
        "validation_fraction": 0.0,
        "shuffle": True,
        "seed": 0,
        "momentum": 0.9,
        "betas": (0.9, 0.999),
        "epsilon": 1e-8,
        "weight_decay": None,
        "accumulate": 1,
        "total_steps": None,
        "validate_every": None,
        "geometric_penalty": 0.0,
        "symmetry_penalty": 0.0,
        "prime_penalty": 0.0,
        "gcd_penalty": 0.0,
    }
    assert dataclasses.asdict(TrainConfig()) == promised
    assert SCHEDULES == ("constant", "cosine", "step")


def test_the_weights_of_penalties_are_those_above_0():
    assert TrainConfig().penalty_weights == {}
    assert TrainConfig(gcd_penalty=2, prime_penalty=0.5).penalty_weights == {"prime": 0.5, "gcd": 2}


def test_numbers_counted_by_numpy_become_plain_and_can_be_written_as_json():
    counts = (
        "batch_size",
        "sequence_length",
        "accumulate",
        "total_steps",
        "validate_every",
        "warmup_steps",
        "seed",
    )
    counted = TrainConfig(**dict.fromkeys(counts, np.int64(3)) | {"total_steps": np.int64(9)})
    assert counted == TrainConfig(**dict.fromkeys(counts, 3) | {"total_steps": 9})
    assert json.loads(json.dumps(dataclasses.asdict(counted)))["seed"] == 3


def test_betas_may_be_a_list_and_a_configuration_cannot_be_changed():
    config = TrainConfig(betas=[0.5, 0.6])
    assert config.betas == (0.5, 0.6)
    assert config == TrainConfig(betas=(0.5, 0.6))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    with pytest.raises(TypeError):
        TrainConfig(8)
