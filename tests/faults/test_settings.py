"""Settings of a step that are wrong, and the updates that give them away."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

from cllm_lab.faults import catalogue
from cllm_lab.faults.fault import Scenario
from cllm_lab.faults.settings import DECAY_STEPS, TOO_HIGH, TOO_LOW
from cllm_lab.training.diagnostics import NonFiniteError
from tests.training.machines import TABLES

both_tables = pytest.mark.parametrize("table", TABLES)
LOWEST, HIGHEST = 0.0004, 0.06  # the band that the catalogue states


def trainers(name, table="fast"):
    fault = catalogue()[name]
    return fault.broken(parts=TABLES[table]), fault.healthy(parts=TABLES[table])


def early_ratio(trainer) -> float:
    return float(np.median(trainer.run(epochs=1).steps.update_ratio))


@both_tables
def test_without_clipping_norm_and_loss_grow_by_decades_where_with_it_the_machine_learns(table):
    broken, healthy = trainers("no-clipping", table)
    epochs = catalogue()["no-clipping"].scenario.epochs
    sound = healthy.run(epochs=epochs)
    with contextlib.suppress(NonFiniteError):  # the two tables overflow at different steps, or not at all
        broken.run(epochs=epochs)
    exploded = broken.history
    assert sound.epoch_loss[-1] < 4.0 < math.log(healthy.corpus.vocab_size)
    for column in ("grad_norm", "loss"):
        assert exploded.steps[column].max() > 1e4 * exploded.steps[column].iloc[0]
        assert sound.steps[column].max() < 3 * sound.steps[column].iloc[0]
    # Together: when the loss has grown a hundredfold, the norm has at least tenfold.
    risen = int(np.argmax(exploded.steps.loss > 100 * exploded.steps.loss.iloc[0]))
    assert exploded.steps.grad_norm.iloc[risen] > 10 * exploded.steps.grad_norm.iloc[0]


def test_without_clipping_a_step_is_the_rate_times_the_gradient():
    broken, healthy = trainers("no-clipping")
    batch = broken._epoch_batches(0)[0]
    _, grads = broken.gradients(*batch)
    norm = float(np.linalg.norm(grads.flat))
    before = broken.params.flat.copy()
    broken.step(*batch)
    healthy.step(*batch)
    rate = broken.config.learning_rate
    assert norm > broken.config.clip_norm
    assert np.linalg.norm(broken.params.flat - before) == pytest.approx(rate * norm, rel=1e-3)
    assert np.linalg.norm(healthy.params.flat - before) == pytest.approx(
        rate * broken.config.clip_norm, rel=1e-3
    )


def test_the_band_of_update_ratios_holds_for_every_rate_that_learns():
    ratios = []
    for rate in (1e-4, 1e-3, 1e-2):
        trainer = Scenario(train={"learning_rate": rate}).trainer()
        ratios.append(early_ratio(trainer))
        assert trainer.run(epochs=3).epoch_loss[-1] < math.log(trainer.corpus.vocab_size) - 0.05
    assert LOWEST < min(ratios) and max(ratios) < HIGHEST
    for name in ("learning-rate-high", "learning-rate-low"):
        assert "(1e-4 to 1e-2) gives 0.0004 to 0.06" in catalogue()[name].signature


@both_tables
@pytest.mark.parametrize(
    ("name", "factor"), [("learning-rate-high", TOO_HIGH), ("learning-rate-low", TOO_LOW)]
)
def test_a_wrong_rate_leaves_the_band_and_the_loss_at_or_above_ln_v(name, factor, table):
    broken, healthy = trainers(name, table)
    ratio = early_ratio(broken)
    assert LOWEST < early_ratio(healthy) < HIGHEST
    first, sound = broken.history[0], healthy.history[0]
    assert first.learning_rate == factor * sound.learning_rate
    assert first.loss == sound.loss and first.grad_norm == sound.grad_norm
    assert first.update_ratio == pytest.approx(factor * sound.update_ratio, rel=1e-3)
    ln_v = math.log(broken.corpus.vocab_size)
    if factor > 1:
        assert ratio > 0.1 and broken.history.epoch_loss[0] > ln_v + 1.0
    else:
        start = broken.params.flat.copy()
        losses = broken.run(epochs=7).epoch_loss
        assert ratio < 1e-4 and ln_v - 0.05 < losses[-1] < losses[0] < ln_v
        assert (broken.params.flat != start).any()


@both_tables
def test_a_rate_decayed_to_zero_freezes_every_bit(table):
    broken, _ = trainers("decayed-to-zero", table)
    history = broken.run(steps=DECAY_STEPS)
    frozen = broken.params.flat.tobytes()
    assert history.steps.learning_rate.iloc[0] == broken.config.learning_rate
    assert np.allclose(np.diff(history.steps.learning_rate), -broken.config.learning_rate / DECAY_STEPS)
    later = broken.run(steps=10).steps.iloc[DECAY_STEPS:]
    assert broken.params.flat.tobytes() == frozen
    assert (later.learning_rate == 0).all() and (later.update_ratio == 0).all()
    assert later.grad_norm.min() > 0.5 * history.steps.grad_norm.min()
    assert history.steps.loss.iloc[-5:].mean() < history.steps.loss.iloc[:5].mean()


@both_tables
def test_adam_without_correction_takes_a_first_step_of_another_size(table):
    broken, healthy = trainers("adam-without-bias-correction", table)
    batch = broken._epoch_batches(0)[0]
    before = broken.params.flat.astype(float)
    for each in (broken, healthy):
        each.step(*batch)
    change, sound = (each.params.flat - before for each in (broken, healthy))
    beta1, beta2 = broken.config.betas
    factor = (1 - beta1) / math.sqrt(1 - beta2)
    assert f"{factor:.2f}" == "3.16"
    moved = abs(healthy.moments["first"].flat) > 1e-5  # where epsilon does not count
    assert moved.mean() > 0.5
    np.testing.assert_allclose(change[moved] / sound[moved], factor, rtol=0.02)
    for name in ("first", "second"):
        np.testing.assert_allclose(
            broken.moments[name].flat, healthy.moments[name].flat, rtol=1e-4, atol=1e-12
        )


def test_adam_without_correction_in_two_steps_by_hand():
    broken, _ = trainers("adam-without-bias-correction")
    params, grads = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    moments = {"first": np.zeros(2), "second": np.zeros(2)}
    expected, m, v = params.copy(), np.zeros(2), np.zeros(2)
    for step in (1, 2):
        scale = 0.5 * step
        m = 0.9 * m + 0.1 * scale * grads
        v = 0.999 * v + 0.001 * (scale * grads) ** 2
        change = 0.01 * m / (np.sqrt(v) + 1e-8)
        sizes = broken.parts.optimizer.update(params, grads, moments, 0.01, step, scale, broken.config)
        assert sizes == pytest.approx((change @ change, expected @ expected), rel=1e-9)
        expected = expected - change
        np.testing.assert_allclose(params, expected, rtol=1e-12)
