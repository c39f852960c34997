"""Where the time goes: each part's own time, and the count of its products."""

import time

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.part_times import part_times
from tests.bench.machines import Machine

CONFIG = lab.ModelConfig(vocab_size=13, context_length=6, d_model=8, n_heads=2, n_layers=3)
BATCH = np.random.default_rng(0).integers(0, 13, (2, 2, 6))


def by_slot(times):
    return {(found.slot, found.direction): found for found in times}


@pytest.mark.parametrize("table", [lab.parts.reference, lab.parts.fast], ids=["reference", "fast"])
def test_every_part_that_works_is_there_as_often_as_it_is_called(table):
    times = by_slot(part_times(lab.Transformer(CONFIG, parts=table), *BATCH, repetitions=2))
    calls = {key: found.calls for key, found in times.items()}
    assert calls["transformer", "forward"] == calls["embedding", "backward"] == calls["loss", "forward"] == 1
    assert calls["block", "forward"] == calls["attention", "backward"] == calls["mask", "forward"] == 3
    assert calls["norm", "forward"] == 7
    assert ("mask", "backward") not in calls
    assert all(found.seconds > 0.0 for found in times.values())


def test_a_part_is_charged_with_its_own_time_and_not_with_that_of_the_parts_it_calls():
    model = lab.Transformer(CONFIG)
    activation = model.parts.activation

    def slow(pre, site):
        time.sleep(0.02)
        return activation.forward(pre, site)

    slowed = model.swapped(activation=lab.parts.Part("slow", slow, activation.backward))
    times = by_slot(part_times(slowed, *BATCH, repetitions=3))
    assert times["activation", "forward"].seconds >= 3 * 0.02
    others = [found.seconds for key, found in times.items() if key != ("activation", "forward")]
    assert max(others) < 0.02


def test_the_products_of_all_parts_are_those_of_the_machine():
    machine = Machine(d_model=8, n_layers=3, n_heads=2, vocab_size=13, batch_size=2, sequence_length=6)
    times = part_times(machine.model(), *machine.batches()[0], repetitions=1)
    assert sum(found.multiply_adds for found in times) == machine.multiply_adds
    assert by_slot(times)["softmax", "forward"].multiply_adds == 0


def test_without_attention_there_are_no_products_of_it():
    config = lab.ModelConfig(vocab_size=13, context_length=6, d_model=8, n_layers=1, attention="none")
    slots = {found.slot for found in part_times(lab.Transformer(config), *BATCH, repetitions=1)}
    assert not slots & {"qkv", "scores", "mix", "w_out", "attention"}


def test_the_model_is_left_as_it_was():
    model = lab.Transformer(CONFIG)
    parts, flat = model.parts, model.params.flat.copy()
    part_times(model, *BATCH, repetitions=1)
    assert model.parts is parts
    assert (model.params.flat == flat).all()


def test_bad_arguments_are_named():
    model = lab.Transformer(CONFIG)
    with pytest.raises(lab.ConfigError, match="repetitions"):
        part_times(model, *BATCH, repetitions=0)
    with pytest.raises(ValueError, match="targets must have the shape of tokens"):
        part_times(model, BATCH[0], BATCH[1][:, :-1])
