"""The exercises: right answers are right, every wrong answer is told from them and named."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.exercises import EXERCISES, backward_passes, check_exercise
from cllm_lab.clinic.exercises.backward_passes import attention_weights, softmax
from cllm_lab.clinic.finite_differences import central_differences
from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.activations import GradientSink, Run, Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.parts import reference
from cllm_lab.model.parts.reference_parts import linear_backward

Arrays = tuple[np.ndarray, ...]
ALL = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
BACKWARD = pytest.mark.parametrize("exercise", backward_passes.EXERCISES, ids=lambda exercise: exercise.name)
MISTAKES = [(exercise, mistake) for exercise in EXERCISES.values() for mistake in exercise.mistakes]
EACH_MISTAKE = pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=[f"{e.name}: {m.message[:40]}" for e, m in MISTAKES]
)


def site(scope: str, batch_targets: np.ndarray | None = None, **sizes: int) -> Site:
    """A place of a float64 reference machine of the given sizes, with somewhere to put gradients."""
    config = ModelConfig(
        **{"vocab_size": 5, "context_length": 8, "d_model": 4, "n_heads": 1, "n_layers": 1, **sizes}
    )
    run = Run(config, reference.choose(config), np.dtype("float64"))
    run.targets = batch_targets
    params = Parameters.zeros(config, "float64")
    return Site(scope, scope, params, run, GradientSink(params.like()))


def cross_entropy_by_parts(logits: np.ndarray, targets: np.ndarray) -> Arrays:
    here = site("loss", targets[None])
    here.run.parts.loss.forward(logits[None], here)
    return (here.run.parts.loss.backward(here)[0][0],)


def linear_by_parts(dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> Arrays:
    here = site("layers.0", d_model=w.shape[0], d_ff=w.shape[1])
    here.params["w_ff1"][...] = w
    dx = linear_backward(dy, x, "w_ff1", "b_ff1", here)
    return dx, here.sink.grads["layers.0.w_ff1"], here.sink.grads["layers.0.b_ff1"]


def tanh_by_parts(dhidden: np.ndarray, hidden: np.ndarray) -> Arrays:
    here = site("layers.0")
    here.run.parts.activation.forward(np.arctanh(hidden), here)
    return (here.run.parts.activation.backward(dhidden, here),)


def layer_norm_by_parts(
    dy: np.ndarray, normalised: np.ndarray, rstd: np.ndarray, gamma: np.ndarray
) -> Arrays:
    here = site("ln_final", d_model=len(gamma))
    here.params["gamma"][...] = gamma
    here.saved.update(normalised=normalised, rstd=rstd)
    dx = here.run.parts.norm.backward(dy, here)
    return dx, here.sink.grads["ln_final.gamma"], here.sink.grads["ln_final.beta"]


def softmax_by_parts(dweights: np.ndarray, weights: np.ndarray) -> Arrays:
    here = site("layers.0")
    here.saved["weights"] = weights
    return (here.run.parts.softmax.backward(dweights, here),)


def attention_by_parts(dout: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
    here = site("layers.0", d_model=q.shape[1])
    parts = here.run.parts
    qkv = np.concatenate([q, k, v], axis=1)[None]
    queries, keys, values = parts.heads.forward(qkv, here)
    weights = parts.softmax.forward(parts.scores.forward((queries, keys), here), here)
    parts.mix.forward((weights, values), here)
    dweights, dv = parts.mix.backward(dout[None], here)
    dq, dk = parts.scores.backward(parts.softmax.backward(dweights, here), here)
    return dq[0, 0], dk[0, 0], dv[0, 0]


BY_PARTS: dict[str, Callable[..., Arrays]] = {
    "cross-entropy-backward": cross_entropy_by_parts,
    "linear-backward": linear_by_parts,
    "tanh-backward": tanh_by_parts,
    "layer-norm-backward": layer_norm_by_parts,
    "softmax-backward": softmax_by_parts,
    "attention-backward": attention_by_parts,
}


def cross_entropy_by_differences(logits: np.ndarray, targets: np.ndarray) -> Arrays:
    def loss(z: np.ndarray) -> float:
        return float(np.mean(np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), targets]))

    # Less digits are left of losses of some 1000 nats, so the step is larger.
    return (central_differences(loss, logits, step=1e-3),)


def linear_by_differences(dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> Arrays:
    b = np.zeros(w.shape[1])
    return (
        central_differences(lambda moved: np.vdot(dy, moved @ w + b), x),
        central_differences(lambda moved: np.vdot(dy, x @ moved + b), w),
        central_differences(lambda moved: np.vdot(dy, x @ w + moved), b),
    )


def tanh_by_differences(dhidden: np.ndarray, hidden: np.ndarray) -> Arrays:
    return (central_differences(lambda pre: np.vdot(dhidden, np.tanh(pre)), np.arctanh(hidden)),)


def layer_norm_by_differences(
    dy: np.ndarray, normalised: np.ndarray, rstd: np.ndarray, gamma: np.ndarray
) -> Arrays:
    x = normalised / rstd
    beta = np.zeros(len(gamma))

    def loss(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> float:
        centred = x - x.mean(axis=1, keepdims=True)
        n = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return float(np.vdot(dy, gamma * n + beta))

    return (
        central_differences(lambda moved: loss(moved, gamma, beta), x),
        central_differences(lambda moved: loss(x, moved, beta), gamma),
        central_differences(lambda moved: loss(x, gamma, moved), beta),
    )


def softmax_by_differences(dweights: np.ndarray, weights: np.ndarray) -> Arrays:
    # A hidden score has no finite value; exp(-40) is none that these digits could see.
    scores = np.log(np.maximum(weights, math.exp(-40.0)))
    return (central_differences(lambda moved: np.vdot(dweights, softmax(moved)), scores),)


def attention_by_differences(dout: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Arrays:
    def loss(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> float:
        out = np.empty_like(v)
        for i in range(len(q)):
            weights = np.exp(k[: i + 1] @ q[i] / math.sqrt(len(q[i])))
            out[i] = weights @ v[: i + 1] / weights.sum()
        return float(np.vdot(dout, out))

    return (
        central_differences(lambda moved: loss(moved, k, v), q),
        central_differences(lambda moved: loss(q, moved, v), k),
        central_differences(lambda moved: loss(q, k, moved), v),
    )


BY_DIFFERENCES: dict[str, Callable[..., Arrays]] = {
    "cross-entropy-backward": cross_entropy_by_differences,
    "linear-backward": linear_by_differences,
    "tanh-backward": tanh_by_differences,
    "layer-norm-backward": layer_norm_by_differences,
    "softmax-backward": softmax_by_differences,
    "attention-backward": attention_by_differences,
}


def test_each_exercise_has_its_oracles_and_at_least_three_mistakes() -> None:
    assert [exercise.name for exercise in backward_passes.EXERCISES] == list(BY_PARTS) == list(BY_DIFFERENCES)
    assert [exercise.name for exercise in EXERCISES.values()] == list(EXERCISES)
    assert all(len(exercise.mistakes) >= 3 for exercise in EXERCISES.values())


@BACKWARD
def test_the_right_answer_is_that_of_the_reference_part(exercise: Exercise) -> None:
    for case in exercise.cases():
        expected = BY_PARTS[exercise.name](*case)
        for right, part in zip(exercise.answer(case).values(), expected, strict=True):
            assert right.dtype == np.float64
            np.testing.assert_allclose(right, part, rtol=0.0, atol=1e-13)


@BACKWARD
def test_the_right_answer_is_that_of_finite_differences(exercise: Exercise) -> None:
    for case in exercise.cases():
        measured = BY_DIFFERENCES[exercise.name](*case)
        for right, numeric in zip(exercise.answer(case).values(), measured, strict=True):
            np.testing.assert_allclose(right, numeric, rtol=0.0, atol=1e-6)


@ALL
def test_the_right_answer_passes(exercise: Exercise) -> None:
    verdict = check_exercise(exercise.name, exercise.solution)
    assert verdict.passed
    assert str(verdict) == f"PASS: {', '.join(exercise.returns)} right at 3 random points".replace(
        "at 3", f"at {len(exercise.cases())}"
    )


@BACKWARD
def test_the_points_are_several_random_and_not_special(exercise: Exercise) -> None:
    cases = exercise.cases()
    assert len({tuple(array.shape for array in case) for case in cases}) == len(cases) >= 2
    for case, again in zip(cases, exercise.cases(), strict=True):
        for name, array, repeated in zip(exercise.parameters, case, again, strict=True):
            np.testing.assert_array_equal(array, repeated)
            assert array.dtype == (np.int64 if name == "targets" else np.float64)
            # No two numbers alike (but for hidden weights, ids, or rows of one number): no ones, no zeros.
            if name != "targets":
                assert len(np.unique(array[array != 0.0])) == np.count_nonzero(array)


@EACH_MISTAKE
def test_a_common_mistake_fails_under_its_name(exercise: Exercise, mistake: Mistake) -> None:
    def mistaken(*inputs: np.ndarray) -> np.ndarray | Arrays:
        results = tuple({**exercise.answer(inputs), **mistake.outputs(*inputs)}.values())
        return results if len(results) > 1 else results[0]

    verdict = check_exercise(exercise.name, mistaken)
    spoilt = [name for name in exercise.returns if name in mistake.outputs(*exercise.cases()[0])]
    right = [name for name in exercise.returns if name not in spoilt]
    praise = f"\nRight already: {', '.join(right)}" if right else ""
    assert str(verdict) == f"FAIL: {', '.join(spoilt)}: {mistake.message}{praise}"


@ALL
def test_two_mistakes_never_look_alike(exercise: Exercise) -> None:
    cases = exercise.cases()
    right = [exercise.answer(case) for case in cases]
    spoilt = [[mistake.outputs(*case) for case in cases] for mistake in exercise.mistakes]
    for first, second in itertools.combinations(range(len(spoilt)), 2):
        if spoilt[first][0].keys() != spoilt[second][0].keys():
            continue  # the one that spoils more is named where more is wrong
        pairs = [
            (one[name], other[name])
            for one, other in zip(spoilt[first], spoilt[second], strict=True)
            for name in one
        ]
        assert not alike(pairs), (exercise.mistakes[first].message, exercise.mistakes[second].message)
    for mistake, values in zip(exercise.mistakes, spoilt, strict=True):
        for name in values[0]:
            assert not alike([(r[name], v[name]) for r, v in zip(right, values, strict=True)]), (
                mistake.message
            )


def alike(pairs: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)


def test_the_weights_of_attention_see_nothing_ahead() -> None:
    rng = np.random.default_rng(0)
    weights = attention_weights(rng.standard_normal((4, 3)), rng.standard_normal((4, 3)))
    np.testing.assert_array_equal(np.triu(weights, 1), 0.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_an_unknown_exercise_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="no exercise 'layer-norm'; the exercises are cross-entropy-backward, lin"
    ):
        check_exercise("layer-norm", lambda: None)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="without brackets; got ndarray"):
        check_exercise("tanh-backward", np.zeros(3))  # type: ignore[arg-type]


def test_the_facade_has_it_and_needs_numpy_alone() -> None:
    assert lab.check_exercise is check_exercise
    code = (
        "import sys, cllm_lab as lab; lab.check_exercise; "
        "print([m for m in ('numba', 'scipy', 'matplotlib', 'pandas', 'ipywidgets') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
