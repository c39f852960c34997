"""Mean length and mean pairwise cosine, against all pairs written out."""

from itertools import combinations

import numpy as np
import pytest

from cllm_lab.clinic.likeness import likeness


def written_out(rows: np.ndarray) -> float:
    pairs = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in combinations(rows, 2)]
    return float(np.mean(pairs))


@pytest.mark.parametrize("shape", [(2, 3), (7, 4), (2, 5, 3)])
def test_it_is_the_mean_over_all_pairs(shape: tuple[int, ...]) -> None:
    x = 3.0 * np.random.default_rng(0).standard_normal(shape) + 0.5
    rows = x.reshape(-1, shape[-1])
    found = likeness(x)
    assert found.cosine == pytest.approx(written_out(rows), abs=1e-12)
    assert found.length == pytest.approx(np.mean([np.sqrt(row @ row) for row in rows]), rel=1e-12)
    assert found.n == len(rows)


def test_by_hand() -> None:
    same = likeness([[3.0, 4.0], [6.0, 8.0]])
    assert (same.length, same.cosine) == (7.5, pytest.approx(1.0, abs=1e-15))
    assert likeness([[2.0, 0.0], [0.0, 5.0]]).cosine == 0.0
    assert likeness([[2.0, 0.0], [-5.0, 0.0]]).cosine == -1.0


def test_float32_is_summed_in_float64() -> None:
    x = np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32)
    assert likeness(x).cosine == pytest.approx(written_out(x.astype(np.float64)), abs=1e-12)


def test_the_text() -> None:
    assert repr(likeness([[3.0, 4.0], [6.0, 8.0]])) == "2 vectors: mean length 7.50, mean cosine of two 1.00"


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([1.0, 2.0], "shape"),
        ([[1.0, 2.0]], "at least two"),
        (np.empty((0, 3)), "at least two"),
        ([[1.0, 2.0], [0.0, 0.0]], "vector 1 is 0"),
        ([[1.0, np.nan], [1.0, 0.0]], "not finite"),
    ],
)
def test_what_has_no_likeness_is_refused(vectors: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        likeness(vectors)  # type: ignore[arg-type]
