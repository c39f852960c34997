"""The sharpness, against Hessians that are known, and against what gradient descent then does."""

from dataclasses import replace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.sharpness import sharpness
from cllm_lab.model.config import ConfigError
from tests.clinic.subjects import Bigram, batch_for, bigram_batch, left_alone, trainer

BATCH = [[0]], [[0]]


class Parabola:
    """L = w^T H w / 2 over two tensors, at a chosen point."""

    def __init__(self, hessian, at, dtype="float64") -> None:
        self.hessian = np.asarray(hessian, float)
        half = len(at) // 2
        self.params = {"a": np.array(at[:half], dtype), "b": np.array(at[half:], dtype)}

    @property
    def flat(self):
        return np.concatenate([array.astype(float) for array in self.params.values()])

    def loss(self, inputs, targets):
        return float(self.flat @ self.hessian @ self.flat / 2)

    def gradients(self, inputs, targets):
        slope = self.hessian @ self.flat
        half = len(self.params["a"])
        return self.loss(inputs, targets), {"a": slope[:half], "b": slope[half:]}

    def forward(self, inputs):
        raise AssertionError("the probe needs no logits")

    step = None


def rotated(eigenvalues, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    return q @ np.diag(eigenvalues) @ q.T


def test_it_finds_the_largest_eigenvalue_and_not_the_largest_in_size() -> None:
    hessian = rotated([-9.0, -1.0, 0.0, 0.5, 2.0, 5.0])
    at = np.random.default_rng(1).standard_normal(6)
    found = sharpness(Parabola(hessian, at), *BATCH, tolerance=1e-9)
    slope = hessian @ at
    assert found.value == pytest.approx(5.0, rel=1e-6)
    assert found.along_gradient == pytest.approx(slope @ hessian @ slope / (slope @ slope), rel=1e-6)
    assert found.largest_stable_rate == pytest.approx(0.4, rel=1e-6)
    assert found.iterations <= 6


@pytest.mark.parametrize(("share", "grows"), [(0.95, False), (1.05, True)])
def test_gradient_descent_bears_just_that_rate(share, grows) -> None:
    subject = Parabola(rotated([0.1, 0.3, 1.0, 7.0]), [1.0, -1.0, 2.0, 0.5])
    rate = share * sharpness(subject, *BATCH, tolerance=1e-6).largest_stable_rate
    before = subject.loss(*BATCH)
    for _ in range(200):
        for name, gradient in subject.gradients(*BATCH)[1].items():
            subject.params[name] -= rate * gradient
    assert (subject.loss(*BATCH) > before) is grows


def test_some_eigenvalue_lies_within_the_error() -> None:
    eigenvalues = np.linspace(-3.0, 4.0, 40)
    subject = Parabola(rotated(eigenvalues), np.ones(40))
    errors = []
    for most in (1, 3, 8, 20):
        found = sharpness(subject, *BATCH, tolerance=1e-9, most_iterations=most)
        assert found.iterations == most
        assert np.abs(eigenvalues - found.value).min() <= found.error * 1.001 + 1e-6
        assert found.value <= 4.0 + 1e-6
        errors.append(found.error)
    assert errors == sorted(errors, reverse=True)


def test_it_ends_when_the_error_is_small_enough() -> None:
    subject = Parabola(rotated(np.linspace(0.0, 4.0, 40)), np.ones(40))
    coarse, fine = (sharpness(subject, *BATCH, tolerance=tolerance) for tolerance in (0.2, 1e-3))
    assert coarse.iterations < fine.iterations < 40
    assert coarse.error <= 0.2 * coarse.value
    assert fine.error <= 1e-3 * fine.value


def hessian_from_losses(subject, batch, step=1e-3):
    """Second differences of the loss alone."""
    places = [(name, index) for name, array in subject.params.items() for index in np.ndindex(array.shape)]

    def loss(*shifts):
        for (name, index), by in shifts:
            subject.params[name][index] += by
        value = subject.loss(*batch)
        for (name, index), by in shifts:
            subject.params[name][index] -= by
        return value

    n = len(places)
    hessian = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            four = [loss((places[i], a), (places[j], b)) for a in (step, -step) for b in (step, -step)]
            hessian[i, j] = hessian[j, i] = (four[0] - four[1] - four[2] + four[3]) / (4 * step**2)
    return hessian


def test_on_a_language_model_against_second_differences_of_its_loss() -> None:
    batch = bigram_batch()
    subject = Bigram().subject()
    eigenvalues = np.linalg.eigvalsh(hessian_from_losses(subject, batch))
    found = sharpness(subject, *batch, tolerance=1e-8)
    assert found.value == pytest.approx(eigenvalues[-1], rel=1e-5)
    assert eigenvalues[0] < -1e-3


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_a_transformer_in_float32_is_as_sharp_as_in_float64(table) -> None:
    exact, rounded = trainer(table), trainer(table, "float32")
    batch = batch_for(exact)
    before = left_alone(rounded)
    found, expected = sharpness(rounded, *batch), sharpness(exact, *batch)
    assert left_alone(rounded) == before
    assert found.value == pytest.approx(expected.value, rel=0.05)
    assert found.along_gradient == pytest.approx(expected.along_gradient, rel=0.05, abs=0.01)
    assert sharpness(rounded, *batch) == found


def test_large_weights_do_not_swallow_the_shift() -> None:
    at = np.full(4, 3e4)
    found = sharpness(Parabola(rotated([1.0, 2.0, 3.0, 8.0]), at, "float32"), *BATCH, tolerance=1e-3)
    assert found.value == pytest.approx(8.0, rel=0.02)


def test_where_nothing_curves_no_rate_is_too_high() -> None:
    zeros = trainer(init="zeros", swaps={"gradient_rule": lambda one_pass: one_pass.backward()})
    found = sharpness(zeros, *batch_for(zeros))
    assert np.isnan(found.along_gradient)
    downwards = sharpness(Parabola(-np.eye(4), np.ones(4)), *BATCH)
    assert downwards.value == pytest.approx(-1.0)
    assert downwards.largest_stable_rate == np.inf


def test_the_text() -> None:
    found = sharpness(Parabola(np.eye(4), np.ones(4)), *BATCH)
    text = repr(replace(found, value=23.564, error=0.0412, along_gradient=16.817))
    assert text == (
        "sharpness 23.6, to 0.04; along the gradient 16.8\n"
        "gradient descent in a parabola so curved is stable up to a rate of 0.085"
    )


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"tolerance": 0.0}, ValueError, "tolerance must be above 0; got 0.0"),
        ({"tolerance": float("nan")}, ValueError, "tolerance must be above 0; got nan"),
        ({"most_iterations": 0}, ConfigError, "most_iterations"),
    ],
)
def test_choices_that_cannot_work_are_refused(choices, error, message) -> None:
    with pytest.raises(error, match=message):
        sharpness(Parabola(np.eye(4), np.ones(4)), *BATCH, **choices)


def test_what_is_no_subject_and_what_is_not_finite_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray lacks"):
        sharpness(np.zeros(3), *BATCH)  # type: ignore[arg-type]
    subject = Parabola(np.eye(4), [1.0, np.nan, 1.0, 1.0])
    with pytest.raises(ValueError, match="gradients are not finite"):
        sharpness(subject, *BATCH)


def test_it_is_on_the_facade() -> None:
    assert lab.sharpness is sharpness
