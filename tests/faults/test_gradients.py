"""Gradients that are not kept, and gradients that are not used: the signatures that the catalogue states."""

import itertools

import numpy as np
import pytest

from cllm_lab.faults import catalogue
from cllm_lab.model.gradient_check import gradient_check, random_point
from tests.training.machines import TABLES, a_batch, make_model, make_trainer

both_tables = pytest.mark.parametrize("table", TABLES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
wherever_tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def at_a_point(fault=None, table="reference", dtype="float64", train=None, **settings):
    """A small trainer at a random point, with a fault of the catalogue or without."""
    model = make_model(table, dtype, **settings)
    model.params.flat[:] = random_point(model.astype("float64").params, seed=2).flat
    return make_trainer(model, faults=() if fault is None else (catalogue()[fault],), **(train or {}))


def in_embedding_group(trainer):
    return {spec.name for spec in trainer.params.specs if spec.group == "embedding"}


def slope(trainer, name, direction, h=1e-5):
    """Central difference of the printed loss along a direction in one tensor."""
    batch, values = a_batch(trainer), trainer.params[name]
    home = values.copy()
    values[...] = home + h * direction
    above = trainer.loss(*batch)
    values[...] = home - h * direction
    below = trainer.loss(*batch)
    values[...] = home
    return (above - below) / (2 * h)


@both_tables
@wherever_tied_or_not
def test_embeddings_only_backward_is_zero_where_the_loss_slopes(table, tied):
    trainer = at_a_point("embeddings-only-backward", table, tied=tied)
    _, grads = trainer.gradients(*a_batch(trainer))
    embeddings = in_embedding_group(trainer)
    assert embeddings >= {"token_embedding", "position_embedding"}
    assert {name for name in grads if grads[name].any()} == embeddings
    rng = np.random.default_rng(0)
    for name in grads:
        direction = rng.normal(size=grads[name].shape)
        numeric = slope(trainer, name, direction)
        assert abs(numeric) > 1e-4
        if name in embeddings:
            assert np.vdot(grads[name], direction) == pytest.approx(numeric, rel=1e-6)


@both_tables
@both_dtypes
def test_embeddings_only_backward_keeps_the_sound_gradient_of_the_embeddings(table, dtype):
    trainer, sound = (at_a_point(fault, table, dtype) for fault in ("embeddings-only-backward", None))
    batch = a_batch(sound)
    loss, grads = trainer.gradients(*batch)
    sound_loss, true = sound.gradients(*batch)
    assert loss == sound_loss
    assert grads.flat.dtype == dtype
    assert (grads.group("embedding") == true.group("embedding")).all()
    record = trainer.step(*batch)
    assert (record.grad_norm_attention, record.grad_norm_ff, record.grad_norm_ln) == (0.0, 0.0, 0.0)
    assert record.grad_norm == record.grad_norm_embedding > 0.0


@both_tables
@both_dtypes
@wherever_tied_or_not
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_embeddings_only_update_moves_nothing_else(table, dtype, tied, optimizer):
    trainer = at_a_point("embeddings-only-update", table, dtype, {"optimizer": optimizer}, tied=tied)
    batch = a_batch(trainer)
    assert all(gradient.any() for gradient in trainer.gradients(*batch)[1].values())
    before = trainer.params.copy()
    trainer.step(*batch)
    moved = {name for name in before if (trainer.params[name] != before[name]).any()}
    assert moved == in_embedding_group(trainer)


@both_tables
def test_embeddings_only_update_follows_sound_gradients(table):
    trainer, sound = (at_a_point(fault, table) for fault in ("embeddings-only-update", None))
    batch = a_batch(sound)
    assert (trainer.gradients(*batch)[1].flat == sound.gradients(*batch)[1].flat).all()
    assert max(gradient_check(trainer.model, *batch).values()) < 1e-6


@both_dtypes
@pytest.mark.parametrize("fault", ["embeddings-only-backward", "embeddings-only-update"])
def test_a_run_goes_the_same_way_on_both_tables(fault, dtype):
    one, other = (at_a_point(fault, table, dtype).run(steps=4).losses for table in TABLES)
    np.testing.assert_allclose(one, other, rtol=1e-8 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("fault", ["embeddings-only-backward", "embeddings-only-update"])
def test_the_curve_does_not_give_them_away(fault):
    trainer = catalogue()[fault].broken()
    start = trainer.params.copy()
    epochs = catalogue()[fault].scenario.epochs
    printed = trainer.run(epochs=epochs).epoch_loss
    sound = catalogue()[fault].healthy().run(epochs=epochs).epoch_loss
    assert all(later < earlier for earlier, later in itertools.pairwise(printed))
    assert printed[0] - printed[-1] > 0.8 * (sound[0] - sound[-1])
    for group in ("attention", "ff", "ln"):
        assert (trainer.params.group(group) == start.group(group)).all()
