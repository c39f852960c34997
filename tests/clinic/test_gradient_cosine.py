"""Cosines of two gradients at equal weights: known changes of a gradient give known cosines."""

import math

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.gradient_cosine import gradient_cosine
from tests.clinic.subjects import (
    CONSTANT_LOSS,
    DROPPED,
    FACTOR_2,
    NAN_IN_LAST_ROW,
    WRONG_SIGN,
    after_backward,
    batch_for,
    left_alone,
    trainer,
)


def _turn(grads):
    """Every second number changes sign: some cosine between -1 and 1."""
    grads.flat[::2] *= -1.0


def compared(swaps, **settings):
    subject, reference = trainer(swaps=swaps, **settings), trainer(seed=1, **settings)
    batch = batch_for(subject)
    before = left_alone(subject), left_alone(reference)
    found = gradient_cosine(subject, reference, *batch)
    assert (left_alone(subject), left_alone(reference)) == before
    return subject, batch, found


@pytest.mark.parametrize(("swaps", "cosine"), [(None, 1.0), (FACTOR_2, 1.0), (WRONG_SIGN, -1.0)])
@pytest.mark.parametrize("settings", [{}, {"tied": False, "norm": "post"}], ids=str)
def test_a_multiple_of_the_gradient(swaps, cosine, settings) -> None:
    subject, _, found = compared(swaps, **settings)
    assert found.whole == pytest.approx(cosine, abs=1e-9)
    assert list(found.tensors) == list(subject.params)
    assert all(value == pytest.approx(cosine, abs=1e-6) for value in found.tensors.values())
    assert found.length == pytest.approx((2.0 if swaps is FACTOR_2 else 1.0) * found.reference_length)
    assert found.same_loss


def test_against_the_reference_at_the_weights_of_the_subject() -> None:
    subject, batch, found = compared(after_backward(_turn))
    expected = subject.model.gradients(*batch)[1]
    turned = expected.copy()
    _turn(turned)
    for name, cosine in found.tensors.items():
        a, b = turned[name].ravel(), expected[name].ravel()
        assert cosine == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), abs=1e-9)
    a, b = turned.flat, expected.flat
    assert found.whole == pytest.approx(a @ b / (b @ b), abs=1e-9)
    assert abs(found.whole) < 0.9
    assert found.reference_length == pytest.approx(np.sqrt(b @ b))
    assert found.loss == pytest.approx(subject.loss(*batch), rel=1e-12)
    low, high = min(found.tensors.values()), max(found.tensors.values())
    assert high - low > 0.1
    names = {cosine: name for name, cosine in found.tensors.items()}
    assert f"lowest {low:.2f} ({names[low]}), highest {high:.2f} ({names[high]})" in repr(found)


def test_a_tensor_without_a_gradient_has_no_direction() -> None:
    _, _, found = compared(DROPPED)
    assert [name for name, cosine in found.tensors.items() if math.isnan(cosine)] == ["layers.0.w_qkv"]
    assert 0.0 < found.whole < 1.0
    assert "no direction in 1 of" in repr(found)


def test_what_is_not_finite_has_no_direction() -> None:
    _, _, found = compared(NAN_IN_LAST_ROW)
    assert math.isnan(found.whole)
    assert math.isnan(found.tensors["token_embedding"])
    assert found.tensors["layers.0.w_qkv"] == pytest.approx(1.0, abs=1e-6)


def _overflow(grads):
    """Numbers that are finite, of a length that is not."""
    grads.flat *= 1e200


def test_what_is_too_long_for_a_number_has_no_direction() -> None:
    _, _, found = compared(after_backward(_overflow))
    assert math.isnan(found.whole)
    assert found.length == math.inf


def test_two_printed_losses_are_told() -> None:
    _, _, found = compared(CONSTANT_LOSS)
    assert not found.same_loss
    assert "they print different losses: 4.186 and" in repr(found)
    assert "both print the same loss" in repr(compared(None)[2])


def test_the_gradient_of_a_squared_error_under_a_cross_entropy() -> None:
    fault = lab.faults.catalogue()["mse-gradient"]
    model = lab.ModelConfig(vocab_size=11, d_model=16, n_heads=2, d_ff=24)
    corpus = lab.MarkovLanguage(n_symbols=11, n_tokens=60)
    made = [
        lab.Trainer(lab.Transformer(model, 0, "float64", lab.parts.reference), corpus, faults=faults)
        for faults in ((fault,), ())
    ]
    found = gradient_cosine(*made, *np.random.default_rng(0).integers(0, 11, (2, 2, 5)))
    assert found.same_loss
    assert found.whole < 0.8


def test_the_text() -> None:
    _, _, found = compared(WRONG_SIGN)
    first, extremes, losses = repr(found).splitlines()
    assert first.startswith("cosine -1.00 over all tensors; |g| ")
    assert extremes.startswith("lowest -1.00 (")
    assert losses == "both print the same loss"


def test_machines_that_are_no_twins_are_refused() -> None:
    subject = trainer()
    with pytest.raises(ValueError, match=r"'layers.1.w_qkv' is missing in subject and \("):
        gradient_cosine(subject, trainer(n_layers=2), *batch_for(subject))
    with pytest.raises(ValueError, match=r"'layers.0.w_ff1' is \(\d+, \d+\) in subject and \("):
        gradient_cosine(subject, trainer(d_ff=3), *batch_for(subject))
    with pytest.raises(TypeError, match="subject must have params"):
        gradient_cosine(subject, 3, *batch_for(subject))
