"""The exercise on the weights of queries, keys and values: its answer is the machine's, every mistake is named."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.attention_gradient import QKV_WEIGHTS_BACKWARD, qkv_weights_backward
from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.clinic.judging import Mistake
from cllm_lab.model.activations import Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts import PartEdit
from cllm_lab.model.parts import reference_parts as healthy

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", QKV_WEIGHTS_BACKWARD.mistakes, ids=lambda mistake: mistake.message[:40]
)


def heads_of(flat: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, T, C) -> (B, H, T, D)."""
    return np.stack(np.split(flat, n_heads, axis=-1), axis=1)


def test_it_is_registered() -> None:
    assert EXERCISES["qkv-weights-backward"] is QKV_WEIGHTS_BACKWARD


def test_the_answer_is_that_of_finite_differences() -> None:
    x, dq, dk, dv = QKV_WEIGHTS_BACKWARD.cases()[0]
    n_heads, C = dq.shape[1], x.shape[-1]
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((C, 3 * C)), rng.standard_normal(3 * C)

    def loss(w, b):
        q, k, v = np.split(x @ w + b, 3, axis=-1)
        return sum(np.vdot(heads_of(part, n_heads), g) for part, g in ((q, dq), (k, dk), (v, dv)))

    dw, db = qkv_weights_backward(x, dq, dk, dv)
    np.testing.assert_allclose(dw, central_differences(lambda moved: loss(moved, b), w), atol=1e-7)
    np.testing.assert_allclose(db, central_differences(lambda moved: loss(w, moved), b), atol=1e-7)


def test_the_answer_is_that_of_the_machine() -> None:
    config = ModelConfig(vocab_size=11, context_length=6, d_model=8, n_heads=2, n_layers=1, d_ff=12)
    heard = {}

    def listening(dqkv, site: Site):
        heard.update(dqkv=dqkv, x=site.saved["input"])
        return healthy.heads_backward(dqkv, site)

    model = lab.Transformer(config, seed=1, dtype="float64", parts=lab.parts.reference)
    tokens, targets = np.random.default_rng(0).integers(0, 11, (2, 3, 6))
    _, grads = model.swapped(heads=PartEdit("listening", backward=listening)).gradients(tokens, targets)
    dw, db = qkv_weights_backward(heard["x"], *heard["dqkv"])
    np.testing.assert_allclose(dw, grads["layers.0.w_qkv"], rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(db, grads["layers.0.b_qkv"], rtol=1e-10, atol=1e-15)


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def answer(*case):
        _, right = qkv_weights_backward(*case)
        spoilt = mistake.outputs(*case)
        return spoilt["dw"], spoilt.get("db", right)

    verdict = check_exercise("qkv-weights-backward", answer)
    spoilt = mistake.outputs(*QKV_WEIGHTS_BACKWARD.cases()[0])
    assert str(verdict).startswith(f"FAIL: {', '.join(spoilt)}: {mistake.message}")


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("qkv-weights-backward", lambda *_: (None, None)).outcome == "NOT ATTEMPTED"
