"""How long the first steps are, held against the formulas of the optimizers."""

import math

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.views.update_sizes import MAGNITUDES, update_size_curves, update_sizes

G = np.array([1e-9, 1e-7, 1e-5, 1e-2, 1.0])
ADAM = lab.TrainConfig(optimizer="adam", learning_rate=0.25)
HAT = lab.TrainConfig(optimizer="adam-epsilon-hat")


def test_adam_and_its_epsilon_hat_at_the_first_step() -> None:
    np.testing.assert_allclose(update_sizes(ADAM, G), G / (G + 1e-8), rtol=1e-9)
    np.testing.assert_allclose(update_sizes(HAT, G), G / (G + 1e-8 / math.sqrt(1 - 0.999)), rtol=1e-9)


def test_the_hat_wears_off() -> None:
    late = update_sizes(HAT, G, steps=50)
    np.testing.assert_allclose(late, G / (G + 1e-8 / math.sqrt(1 - 0.999**50)), rtol=1e-9)


def test_sgd_goes_with_the_gradient() -> None:
    np.testing.assert_allclose(update_sizes(lab.TrainConfig(optimizer="sgd"), G), G, rtol=1e-9)


def test_lines_marks_and_words() -> None:
    picture = update_size_curves({"adam": ADAM, "hat": HAT}, marks={"|g| = 1e-5": 1e-5})
    (axes,) = picture.axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert np.array_equal(drawn["adam"].get_xdata(), MAGNITUDES)
    assert np.array_equal(drawn["hat"].get_ydata(), update_sizes(HAT, MAGNITUDES))
    assert drawn["|g| = 1e-5"].get_xdata() == [1e-5, 1e-5]
    adam, hat = (update_sizes(config, [1e-5])[0] for config in (ADAM, HAT))
    assert picture.words == (
        f"Length of step 1 in units of the learning rate. adam: {adam:.3g} at |g| = 1e-5. hat: {hat:.3g} at |g| = 1e-5."
    )
    assert "adam: 1 at |g| = 1." in update_size_curves({"adam": ADAM}).words


def test_what_cannot_be_measured_is_refused() -> None:
    for bad in ([], [0.0], [[1.0]], [-1.0], [math.nan]):
        with pytest.raises(ValueError, match="magnitudes must be a row of numbers above 0"):
            update_sizes(ADAM, bad)
    with pytest.raises(lab.ConfigError, match="steps"):
        update_sizes(ADAM, G, steps=0)
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        update_sizes(lab.TrainConfig(learning_rate=0.0), G)
