"""Instruments that see too little: what they report beside what is there."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cllm_lab.faults import catalogue
from cllm_lab.faults.instruments import COUNTED_FROM, FIRST_ROWS, counted_norm
from cllm_lab.training.diagnostics import NonFiniteError, norm, sum_of_squares
from tests.training.machines import TABLES

both_tables = pytest.mark.parametrize("table", TABLES)
NAN, ROWS = catalogue()["nan-counted-as-zero"], catalogue()["first-rows-instrument"]


def test_nan_and_what_is_tiny_count_as_zero_and_infinity_does_not():
    values = np.array([3.0, np.nan, -4.0, 0.5 * COUNTED_FROM])
    assert counted_norm(values, sum_of_squares) == 5.0
    assert counted_norm(np.full(3, np.nan), sum_of_squares) == 0.0
    assert counted_norm(np.array([np.inf, 1.0]), sum_of_squares) == np.inf
    assert np.isnan(norm(values, sum_of_squares))


@both_tables
def test_the_healthy_instrument_stops_before_the_nan_is_in_the_weights(table):
    healthy = NAN.healthy(parts=TABLES[table])
    with pytest.raises(
        NonFiniteError, match=r"step 3: the first gradient that is not finite is layers\.0\.w_ff1"
    ):
        healthy.run(epochs=NAN.scenario.epochs)
    assert np.isfinite(healthy.params.flat).all()


@both_tables
def test_the_broken_one_lets_it_in_and_the_next_step_fails_elsewhere(table):
    broken, lines = NAN.broken(parts=TABLES[table]), []
    broken.run(steps=2)
    third = broken._epoch_batches(0)[2]
    with np.errstate(all="ignore"):
        loss, grads = broken.gradients(*third)
    assert np.isfinite(loss) and np.isfinite(broken.params.flat).all()
    assert np.isnan(grads["layers.0.w_ff1"]).any()
    record = broken.run(steps=1)[-1]
    assert np.isfinite(record.loss) and np.isfinite(record.grad_norm)
    assert np.isnan(broken.params.flat).any()
    with pytest.raises(NonFiniteError, match="step 4: the first activation that is not finite is embedding"):
        broken.run(steps=1, console=lines.append)


def test_its_statistics_print_numbers_where_there_are_none():
    broken = NAN.broken()
    grads = broken.params.like()
    grads.flat[:] = np.nan
    healthy, counted = NAN.healthy().parts.instruments, broken.parts.instruments
    assert "nan" in healthy.gradient_statistics(grads) and "not finite=" in healthy.gradient_statistics(grads)
    assert counted.gradient_statistics(grads) == (
        "Gradients: embed=0 (max=0.00e+00, avg=0.00e+00), attn=0 (max=0.00e+00)"
    )
    assert counted.max_gradient_magnitude(grads) == "Max gradient magnitude: 0.000000"


def test_on_sound_gradients_it_prints_what_the_healthy_one_prints():
    sound = NAN.healthy()
    _, grads = sound.gradients(*sound._epoch_batches(0)[0])
    healthy, counted = sound.parts.instruments, NAN.broken().parts.instruments
    assert counted.max_gradient_magnitude(grads) == healthy.max_gradient_magnitude(grads)
    assert counted.norm(grads.flat, sum_of_squares) == pytest.approx(healthy.norm(grads.flat), rel=1e-6)
    exact, near = (
        re.findall(r"(?:max|avg)=(\S+?)[,)]", each.gradient_statistics(grads)) for each in (healthy, counted)
    )
    assert exact == near and len(near) == 3


@both_tables
def test_row_zero_is_pad_and_has_no_gradient_while_the_machine_learns(table):
    broken, healthy = (make(parts=TABLES[table]) for make in (ROWS.broken, ROWS.healthy))
    lines, sound_lines = [], []
    history = broken.run(steps=10, console=lines.append)
    healthy_history = healthy.run(steps=10, console=sound_lines.append)
    assert lines.count("Max gradient magnitude: 0.000000") == 2
    assert "Max gradient magnitude: 0.000000" not in sound_lines
    assert broken.params.flat.tobytes() == healthy.params.flat.tobytes()
    assert list(history.steps.loss) == list(healthy_history.steps.loss)
    assert list(history.steps.grad_norm) == list(healthy_history.steps.grad_norm)
    _, grads = broken.gradients(*broken._epoch_batches(0)[0])
    assert not grads["token_embedding"][0].any() and grads["token_embedding"].any()


def test_the_statistics_count_the_first_rows_alone():
    broken = ROWS.broken()
    grads = broken.params.like()
    grads["token_embedding"][FIRST_ROWS:] = 1.0
    grads["token_embedding"][FIRST_ROWS - 1, :3] = -2.0
    line = broken.parts.instruments.gradient_statistics(grads)
    assert line.startswith(f"Gradients: embed=3 (max=2.00e+00, avg={6 / (FIRST_ROWS * 64):.2e}), attn=0")
