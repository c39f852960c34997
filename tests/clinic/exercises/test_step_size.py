"""The exercise on clipping: its answer is the trainer's factor, and every mistake is named."""

import numpy as np
import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.clinic.exercises.step_size import CLIP_BY_GLOBAL_NORM, clip_by_global_norm
from cllm_lab.clinic.judging import Mistake
from cllm_lab.training.parts import clip_by_global_norm as factor_of_the_trainer

EACH_MISTAKE = pytest.mark.parametrize(
    "mistake", CLIP_BY_GLOBAL_NORM.mistakes, ids=lambda mistake: mistake.message[:40]
)


def norm_of(*gradients: np.ndarray) -> float:
    return float(np.linalg.norm(np.concatenate([gradient.ravel() for gradient in gradients])))


def test_it_is_registered() -> None:
    assert EXERCISES["clip-by-global-norm"] is CLIP_BY_GLOBAL_NORM


def test_the_answer_is_that_of_the_trainer_but_for_its_1e_6() -> None:
    for dw, db, clip_norm in CLIP_BY_GLOBAL_NORM.cases():
        factor = factor_of_the_trainer(norm_of(dw, db), float(clip_norm))
        clipped = clip_by_global_norm(dw, db, clip_norm)
        np.testing.assert_allclose(clipped[0], factor * dw, rtol=1e-5)
        np.testing.assert_allclose(clipped[1], factor * db, rtol=1e-5)


def test_the_result_is_as_long_as_allowed_and_points_the_same_way() -> None:
    lengths = []
    for dw, db, clip_norm in CLIP_BY_GLOBAL_NORM.cases():
        clipped = clip_by_global_norm(dw, db, clip_norm)
        lengths.append(norm_of(dw, db) / clip_norm)
        assert norm_of(*clipped) == pytest.approx(min(norm_of(dw, db), float(clip_norm)), rel=1e-12)
        whole, cut = (np.concatenate([w.ravel(), b]) for w, b in ((dw, db), clipped))
        assert whole @ cut == pytest.approx(norm_of(whole) * norm_of(cut), rel=1e-12)
    assert max(lengths) > 1.0 and 0.0 < sorted(lengths)[1] < 1.0 and min(lengths) == 0.0


@EACH_MISTAKE
def test_each_mistake_is_named(mistake: Mistake) -> None:
    verdict = check_exercise("clip-by-global-norm", lambda *case: tuple(mistake.outputs(*case).values()))
    assert verdict.outcome == "FAIL"
    assert mistake.message in verdict.message


def test_nothing_written_is_not_attempted() -> None:
    assert check_exercise("clip-by-global-norm", lambda dw, db, clip_norm: None).outcome == "NOT ATTEMPTED"
