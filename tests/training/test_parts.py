import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.model.parts import SLOTS
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.optimizers import optimizers
from cllm_lab.training.parts import (
    TRAINING_SLOTS,
    TrainingParts,
    clip_by_global_norm,
    healthy_parts,
    sort_swaps,
    swap_training_parts,
    true_loss,
)
from tests.training.machines import TEXT, Fault, make_model, make_trainer


def test_the_slots_of_a_step():
    assert TRAINING_SLOTS == (
        "optimizer",
        "initialisation",
        "stream",
        "batches",
        "gradient_rule",
        "reported_loss",
        "clipping",
        "schedule",
        "trainable",
        "instruments",
    )
    assert not set(TRAINING_SLOTS) & set(SLOTS)


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_healthy_parts_take_the_optimizer_of_their_table(table):
    for kind in ("sgd", "adamw"):
        assert healthy_parts(table, TrainConfig(optimizer=kind)).optimizer is optimizers(table)[kind]


@given(st.floats(0, 1e30), st.floats(1e-6, 1e6))
def test_clipping_scales_long_gradients_to_the_norm_and_no_others(norm, clip_norm):
    factor = clip_by_global_norm(norm, clip_norm)
    assert factor == min(1.0, clip_norm / (norm + 1e-6))
    assert factor * norm <= clip_norm * (1 + 1e-12)


def test_clipping_at_its_landmarks():
    assert clip_by_global_norm(0.0, 1.0) == 1.0
    assert clip_by_global_norm(0.5, 1.0) == 1.0
    assert clip_by_global_norm(4.0, 1.0) == pytest.approx(0.25, rel=1e-6)
    assert clip_by_global_norm(1e30, None) == 1.0


def test_the_reported_loss_is_the_loss():
    assert true_loss(0.1, None) == 0.1


def test_swaps_are_sorted_by_where_they_act():
    model_part, training_part = object(), object()
    found = sort_swaps([Fault("a", {"softmax": model_part}), Fault("b", {"clipping": training_part})])
    assert found == ({"softmax": model_part}, {"clipping": training_part})
    assert sort_swaps(()) == ({}, {})


@pytest.mark.parametrize("slot", ["softmax", "clipping"])
def test_two_faults_in_one_slot_are_refused_naming_both_and_the_slot(slot):
    with pytest.raises(ValueError) as caught:
        make_trainer(faults=(Fault("first", {slot: 1}), Fault("second", {slot: 2})))
    assert str(caught.value) == (
        f"faults 'first' and 'second' both swap the slot {slot!r}; choose one of them"
    )


def test_a_slot_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError) as caught:
        make_trainer(faults=(Fault("odd", {"carburettor": 1}),))
    text = str(caught.value)
    assert "fault 'odd' swaps 'carburettor'" in text
    assert all(slot in text for slot in (*SLOTS, *TRAINING_SLOTS))


@pytest.mark.parametrize("wrong", [("doubled-attention",), [3], (None,), (Fault,)])
def test_what_is_no_fault_is_refused(wrong):
    with pytest.raises(TypeError, match="faults must be fault objects with an id and swaps; got"):
        make_trainer(faults=wrong)


@pytest.mark.parametrize("alone", ["doubled-attention", Fault("lonely", {})])
def test_a_fault_that_is_not_in_a_sequence_is_refused(alone):
    with pytest.raises(TypeError, match=r"faults must be a sequence of fault objects; got .* alone"):
        make_trainer(faults=alone)


def test_swapping_leaves_the_other_slots():
    healthy = healthy_parts("reference", TrainConfig())
    swapped = swap_training_parts(healthy, {"reported_loss": math.floor})
    assert swapped.reported_loss is math.floor
    for field in dataclasses.fields(TrainingParts):
        if field.name != "reported_loss":
            assert getattr(swapped, field.name) is getattr(healthy, field.name)


def test_every_tensor_is_trainable_by_default():
    model = make_model(corpus=TEXT)
    names = healthy_parts("fast", TrainConfig()).trainable(model.params.specs)
    assert names == tuple(model.params)
    assert sum(model.params[name].size for name in names) == np.size(model.params.flat)
