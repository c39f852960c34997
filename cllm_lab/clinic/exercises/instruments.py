"""An exercise on instruments: a summary of a gradient that shows what there is to see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake, Value
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]
_THRESHOLD = 1e-10
_FIRST = 20


def gradient_summary(gradient: Array) -> tuple[float, int, int]:
    """(largest, zero_rows, not_finite) of a gradient (V, C).

    The largest |g| of the finite entries, the number of rows whose every entry is exactly 0, and the number of
    entries that are NaN or infinite.
    """
    finite = np.isfinite(gradient)
    return (
        float(np.abs(gradient[finite]).max()),
        int((gradient == 0.0).all(axis=1).sum()),
        int(np.count_nonzero(~finite)),
    )


def _gradients(rng: np.random.Generator) -> Cases:
    """Every entry that is not finite, tiny, or largest stands beyond the first twenty rows; row 0 is 0, as PAD's."""
    for V, C in ((40, 6), (37, 5)):
        gradient = 1e-2 * rng.standard_normal((V, C))
        gradient[[0, 3, V - 2]] = 0.0
        gradient[26, :3] = 0.0
        # One tiny row, two of NaN, four that add up to exactly 0: no two mistakes give one count.
        gradient[24] = 1e-12 * rng.standard_normal(C)
        gradient[[27, 30]] = np.nan
        gradient[[28, 31, 32, 33]] = 0.0
        gradient[[28, 31, 32, 33], :2] = 0.25, -0.25
        gradient[23, 1] = -0.5
        gradient[25, 0], gradient[25, 2] = np.nan, np.nan
        gradient[22, 2], gradient[29, 1], gradient[29, 3] = np.inf, -np.inf, np.inf
        yield (gradient,)


def _counted(gradient: Array) -> Array:
    """What the original counted: a comparison with NaN is false."""
    return np.where(np.abs(gradient) > _THRESHOLD, gradient, 0.0)


def _rows_that_add_up_to_0(gradient: Array) -> np.float64:
    with np.errstate(invalid="ignore"):
        return np.float64(np.count_nonzero(gradient.sum(axis=1) == 0.0))


def _zero_rows(gradient: Array) -> np.float64:
    return np.float64((gradient == 0.0).all(axis=1).sum())


def _as_outputs(gradient: Array) -> dict[str, Value]:
    largest, zero_rows, not_finite = gradient_summary(gradient)
    return {
        "largest": np.float64(largest),
        "zero_rows": np.float64(zero_rows),
        "not_finite": np.float64(not_finite),
    }


GRADIENT_SUMMARY = Exercise(
    name="gradient-summary",
    parameters=("gradient",),
    returns=("largest", "zero_rows", "not_finite"),
    asked="Of a gradient (V, C): the largest |g| of its finite entries, how many rows are exactly 0 throughout, "
    "how many entries are not finite.",
    inputs=_gradients,
    solution=gradient_summary,
    mistakes=(
        Mistake(
            "only the first twenty rows were looked at",
            lambda g: _as_outputs(g[:_FIRST]),
        ),
        Mistake("only row 0 was looked at, the row of PAD", lambda g: _as_outputs(g[:1])),
        Mistake(
            "NaN came out: one NaN makes a maximum NaN, so look at the finite entries alone",
            lambda g: {"largest": np.abs(g).max()},
        ),
        Mistake(
            "an infinity came out: NaN was left out, infinite entries were not",
            lambda g: {"largest": np.nanmax(np.abs(g))},
        ),
        Mistake(
            "the sign was kept: the largest number is not the largest |g|",
            lambda g: {"largest": g[np.isfinite(g)].max()},
        ),
        Mistake(
            "this is the mean |g|, which most entries of a large table pull down",
            lambda g: {"largest": np.abs(g[np.isfinite(g)]).mean()},
        ),
        Mistake(
            "a threshold took NaN and tiny entries for 0: |NaN| > 1e-10 is false; compare with 0 exactly",
            lambda g: {"zero_rows": _zero_rows(_counted(g))},
        ),
        Mistake(
            "tiny rows were counted as 0: a threshold, or rounding as of %.6f, cannot tell 1e-12 from nothing",
            lambda g: {"zero_rows": _zero_rows(g.round(6))},
        ),
        Mistake(
            "NaN rows were counted as 0: NaN is not 0",
            lambda g: {"zero_rows": _zero_rows(np.nan_to_num(g, posinf=1.0, neginf=1.0))},
        ),
        Mistake(
            "a row whose entries add up to 0 is not a row of zeros",
            lambda g: {"zero_rows": _rows_that_add_up_to_0(g)},
        ),
        Mistake(
            "these are entries, not rows",
            lambda g: {"zero_rows": np.float64(np.count_nonzero(g == 0.0))},
        ),
        Mistake(
            "rows with a single 0 were counted; every entry of the row must be 0",
            lambda g: {"zero_rows": np.float64((g == 0.0).any(axis=1).sum())},
        ),
        Mistake(
            "infinite entries are missing: np.isnan is false for them",
            lambda g: {"not_finite": np.float64(np.isnan(g).sum())},
        ),
        Mistake(
            "NaN entries are missing: np.isinf is false for them",
            lambda g: {"not_finite": np.float64(np.isinf(g).sum())},
        ),
        Mistake(
            "these are the rows that hold such an entry; count the entries",
            lambda g: {"not_finite": np.float64((~np.isfinite(g)).any(axis=1).sum())},
        ),
        Mistake(
            "these are the entries that are finite",
            lambda g: {"not_finite": np.float64(np.isfinite(g).sum())},
        ),
    ),
)

EXERCISES = (GRADIENT_SUMMARY,)
