"""The exercise on the bias of attention: its answer is the engine's and that of differences; every mistake is named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.lattice_bias import BIAS_BACKWARD, bias_backward
from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.clinic.judging import Mistake
from cllm_lab.model.activations import GradientSink, Run, Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.parts import reference

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", BIAS_BACKWARD.mistakes, ids=lambda mistake: mistake.message[:40]
)


def test_it_is_registered() -> None:
    assert EXERCISES["bias-backward"] is BIAS_BACKWARD


def test_the_answer_agrees_with_differences() -> None:
    for dbiased, strengths, feature in BIAS_BACKWARD.cases():
        scores = np.random.default_rng(0).standard_normal(dbiased.shape)

        def loss(
            scores: np.ndarray,
            strengths: np.ndarray,
            dbiased: np.ndarray = dbiased,
            feature: np.ndarray = feature,
        ) -> float:
            return float(np.vdot(dbiased, scores + strengths[:, None, None] * feature[:, None]))

        dscores, dstrengths = bias_backward(dbiased, strengths, feature)
        assert np.allclose(dscores, central_differences(lambda s, t=strengths: loss(s, t), scores))
        assert np.allclose(dstrengths, central_differences(lambda t, s=scores: loss(s, t), strengths))


def test_the_answer_is_what_the_part_does() -> None:
    config = ModelConfig(
        vocab_size=9, context_length=5, d_model=4, n_heads=2, n_layers=1, attention_bias="phase"
    )
    parts = reference.choose(config)
    run = Run(config, parts, np.dtype("float64"))
    run.tokens = np.array([[1, 4, 4, 8, 0], [3, 2, 7, 7, 5]])
    params = Parameters.zeros(config, "float64")
    params["layers.0.bias_strength"][:] = 0.5, -2.0
    sink = GradientSink(params.like())
    site = Site("layers.0", "layers.0", params, run, sink)
    scores, dbiased = np.random.default_rng(1).standard_normal((2, 2, 2, 5, 5))
    sink.begin()
    parts.bias.forward(scores, site)
    dscores = parts.bias.backward(dbiased, site)
    feature = run.of_batch["pairs"][:, 0]
    expected = bias_backward(dbiased, params["layers.0.bias_strength"], feature)
    assert np.array_equal(dscores, expected[0])
    assert np.allclose(sink.grads["layers.0.bias_strength"], expected[1], rtol=1e-12)


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    def wrong(dbiased: np.ndarray, strengths: np.ndarray, feature: np.ndarray) -> tuple:
        right = dict(zip(BIAS_BACKWARD.returns, bias_backward(dbiased, strengths, feature), strict=True))
        return tuple((right | dict(mistake.outputs(dbiased, strengths, feature))).values())

    verdict = check_exercise("bias-backward", wrong)
    assert verdict.outcome == "FAIL"
    assert mistake.message in str(verdict)


def test_the_right_answer_passes_and_nothing_written_is_not_attempted() -> None:
    assert check_exercise("bias-backward", bias_backward).passed
    assert check_exercise("bias-backward", lambda *given: None).outcome == "NOT ATTEMPTED"


def test_the_gradient_itself_may_be_handed_on() -> None:
    assert check_exercise("bias-backward", lambda d, s, f: (d, bias_backward(d, s, f)[1])).passed
