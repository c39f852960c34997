"""Judging a person's function against the right answer of an exercise and the commonest wrong ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cllm_lab.model.parameters import Array
from cllm_lab.streams import stream

Value = Array | float | np.floating
Outcome = Literal["PASS", "FAIL", "NOT ATTEMPTED"]
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and what to tell them.

    ``outputs`` takes the exercise's inputs and gives back the outputs that this mistake spoils, by name.
    """

    message: str
    outputs: Callable[..., Mapping[str, Value]]


@dataclass(frozen=True)
class Exercise:
    """A function to be written, its right answer and the commonest wrong ones.

    ``parameters`` and ``returns``: names, in the order of the call. ``asked``: the task in one sentence.
    ``inputs``: from a generator, several tuples of arrays at which the function is tried; float64 at random
    points, since the natural ones (gains of 1, gradients of ones) let wrong functions pass.
    ``solution``: takes the inputs, gives back one array or number, or a tuple of them for several returns.
    """

    name: str
    parameters: tuple[str, ...]
    returns: tuple[str, ...]
    asked: str
    inputs: Callable[[np.random.Generator], Iterable[tuple[Array, ...]]]
    solution: Callable[..., Value | tuple[Value, ...]]
    mistakes: tuple[Mistake, ...]

    @property
    def signature(self) -> str:
        """Such as ``linear_backward(dy, x, w) -> (dx, dw, db)``."""
        results = ", ".join(self.returns)
        wanted = results if len(self.returns) == 1 else f"({results})"
        return f"{self.name.replace('-', '_')}({', '.join(self.parameters)}) -> {wanted}"

    def cases(self) -> list[tuple[Array, ...]]:
        """The inputs that every answer is tried on; the same ones each time."""
        return list(self.inputs(stream(0, "check", zlib.crc32(self.name.encode()))))

    def answer(self, case: tuple[Array, ...]) -> dict[str, Array]:
        """The right value of every return, by name."""
        result = self.solution(*case)
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.returns, map(_as_array, values), strict=True))


@dataclass(frozen=True)
class Verdict:
    """What became of one answer; its text is the verdict. ``error``: what the function raised, if it did."""

    exercise: str
    outcome: Outcome
    message: str
    error: Exception | None = field(default=None, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.outcome == "PASS"

    def __repr__(self) -> str:
        return f"{self.outcome}: {self.message}"


def judge(exercise: Exercise, function: Callable[..., Any]) -> Verdict:
    """Tries a function on every case of an exercise; the first case that it fails makes the verdict."""
    cases = exercise.cases()
    for case in cases:
        verdict = _judge_case(exercise, function, case)
        if verdict is not None:
            return verdict
    return Verdict(
        exercise.name, "PASS", f"{', '.join(exercise.returns)} right at {len(cases)} random points"
    )


def _judge_case(exercise: Exercise, function: Callable[..., Any], case: tuple[Array, ...]) -> Verdict | None:
    """What is wrong at one case, or None."""
    handed_over = tuple(array.copy() for array in case)
    try:
        result = function(*handed_over)
    except NotImplementedError:
        return _not_attempted(exercise)
    except Exception as error:
        given = ", ".join(
            f"{name} {array.shape}" for name, array in zip(exercise.parameters, case, strict=True)
        )
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Verdict(exercise.name, "FAIL", f"called with {given}, your function raised {text}", error)

    changed = [
        name
        for name, before, after in zip(exercise.parameters, case, handed_over, strict=True)
        if not np.array_equal(before, after, equal_nan=True)
    ]
    results = result if isinstance(result, tuple | list) else (result,)
    if all(value is None for value in results):
        return _not_attempted(exercise)
    if changed:
        return Verdict(
            exercise.name,
            "FAIL",
            f"your function changed its input {', '.join(changed)} in place; the caller still needs it, "
            "so write the result into an array of its own",
        )
    if len(results) != len(exercise.returns):
        wanted = "one array" if len(exercise.returns) == 1 else f"a tuple of {len(exercise.returns)} arrays"
        got = f"{len(results)} values" if isinstance(result, tuple | list) else f"one {type(result).__name__}"
        return Verdict(exercise.name, "FAIL", f"expected {wanted}, {', '.join(exercise.returns)}; got {got}")
    return _judge_values(exercise, case, results)


def _not_attempted(exercise: Exercise) -> Verdict:
    return Verdict(exercise.name, "NOT ATTEMPTED", f"{exercise.signature} is still to be written")


def _judge_values(exercise: Exercise, case: tuple[Array, ...], results: Iterable[Any]) -> Verdict | None:
    named_mistakes = [
        (mistake.message, {name: _as_array(value) for name, value in mistake.outputs(*case).items()})
        for mistake in exercise.mistakes
    ]
    complaints: dict[str, list[str]] = {}
    right, wrong = [], {}
    for (name, expected), given in zip(exercise.answer(case).items(), results, strict=True):
        got = _as_array(given)
        unlike = _unlike_an_answer(got)
        if unlike is not None:
            complaints.setdefault(unlike, []).append(name)
        elif _equal(got, expected):
            right.append(name)
        else:
            wrong[name] = (got, expected)
    explained = [
        (text, [name for name, (got, _) in wrong.items() if name in spoilt and _equal(got, spoilt[name])])
        for text, spoilt in named_mistakes
    ]
    # The mistake that explains most of what is wrong goes first.
    explained.sort(key=lambda mistake: -len(mistake[1]))
    for name, (got, expected) in wrong.items():
        known = next((text for text, names in explained if name in names), None)
        complaints.setdefault(known or _difference(got, expected), []).append(name)
    if not complaints:
        return None
    text = "; ".join(f"{', '.join(names)}: {complaint}" for complaint, names in complaints.items())
    praise = f"\nRight already: {', '.join(right)}" if right else ""
    return Verdict(exercise.name, "FAIL", text + praise)


def _as_array(value: Any) -> Any:
    """A lone real number as a float64 array of no dimension; anything else as it is."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return np.asarray(value, np.float64) if number else value


def _unlike_an_answer(got: Any) -> str | None:
    """Why a value cannot be compared with the right one at all, or None."""
    if got is None:
        return "is None, still to be written"
    if not isinstance(got, np.ndarray):
        return f"is of type {type(got).__name__}, not a NumPy array"
    if got.dtype != np.float64:
        return f"has dtype {got.dtype}; the inputs are float64, so the result must be too"
    return None


def _difference(got: Array, expected: Array) -> str:
    """A right form, a wrong value: the most telling description that needs no knowledge of the exercise."""
    if got.ndim == 2 and _equal(got.T, expected):
        return f"is transposed: got shape {got.shape}, expected {expected.shape}"
    if got.shape != expected.shape:
        hint = ": transposed?" if got.shape == expected.shape[::-1] else ""
        return f"has the wrong shape: got {got.shape}, expected {expected.shape}{hint}"
    if not np.isfinite(got).all():
        place = _text(np.argwhere(~np.isfinite(got))[0])
        return f"holds {np.count_nonzero(~np.isfinite(got))} numbers that are NaN or infinite, the first at {place}"
    if not got.any():
        return "is 0 everywhere"
    factor = float(np.vdot(expected, got) / np.vdot(expected, expected)) if expected.any() else np.nan
    if got.ndim and _equal(got, factor * expected):
        return f"is {factor:.4g} times the right answer"
    if got.ndim == 0:
        return f"is {got:.6g}, expected {expected:.6g}"
    errors = np.abs(got - expected)
    worst = np.unravel_index(errors.argmax(), errors.shape)
    return (
        f"has the right shape and wrong values; the largest error is {errors.max():.2g} at {_text(worst)}: "
        f"got {got[worst]:.4g}, expected {expected[worst]:.4g}"
    )


def _equal(got: Array, expected: Array) -> bool:
    """Whether two arrays agree to 1e-9 of the largest number expected; NaN agrees with NaN."""
    if got.shape != expected.shape:
        return False
    finite = expected[np.isfinite(expected)]
    scale = np.abs(finite).max(initial=0.0)
    return bool(np.allclose(got, expected, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True))


def _text(place: Iterable[Any]) -> str:
    return f"[{', '.join(str(int(index)) for index in place)}]"
