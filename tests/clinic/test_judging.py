"""How an answer is judged, whatever the exercise: attempts, exceptions, forms, values."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cllm_lab.clinic.judging import Exercise, Mistake, Verdict, judge


def product_and_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a @ b, a.sum(axis=1)


def inputs(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    for n in (3, 4):
        yield rng.standard_normal((n, 2)), rng.standard_normal((2, 5))


PAIR = Exercise(
    name="product-and-sum",
    parameters=("a", "b"),
    returns=("product", "sums"),
    asked="The product of a and b and the sums of the rows of a.",
    inputs=inputs,
    solution=product_and_sum,
    mistakes=(
        Mistake("sign", lambda a, b: {"product": -a @ b, "sums": -a.sum(axis=1)}),
        Mistake("columns", lambda a, b: {"sums": a.sum(axis=0)}),
    ),
)
SINGLE = Exercise("rows", ("a", "b"), ("sums",), "", inputs, lambda a, b: a.sum(axis=1), ())


def verdict_of(change: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
    """The verdict where the function changes the right results."""
    return judge(PAIR, lambda a, b: change(*product_and_sum(a, b)))


def test_the_right_results_pass_as_a_tuple_or_a_list() -> None:
    expected = Verdict("product-and-sum", "PASS", "product, sums right at 2 random points")
    assert judge(PAIR, product_and_sum) == expected
    assert judge(PAIR, lambda a, b: list(product_and_sum(a, b))) == expected
    assert judge(SINGLE, lambda a, b: a.sum(axis=1)).passed
    assert judge(SINGLE, lambda a, b: (a.sum(axis=1),)).passed


def test_another_order_of_additions_passes_and_a_small_error_does_not() -> None:
    assert verdict_of(lambda p, s: (p * (1.0 + 1e-13), s)).passed
    assert not verdict_of(lambda p, s: (p + 1e-8, s)).passed


def unwritten(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    raise NotImplementedError("here")


@pytest.mark.parametrize("stub", [unwritten, lambda a, b: None, lambda a, b: (None, None)])
def test_a_stub_is_not_attempted(stub: Callable[..., Any]) -> None:
    verdict = judge(PAIR, stub)
    assert str(verdict) == "NOT ATTEMPTED: product_and_sum(a, b) -> (product, sums) is still to be written"
    assert not verdict.passed
    single = "NOT ATTEMPTED: rows(a, b) -> sums is still to be written"
    assert str(judge(SINGLE, unwritten)) == single


def test_an_exception_is_reported_with_its_text_and_kept() -> None:
    failure = KeyError("line one\nline two")

    def raising(a: np.ndarray, b: np.ndarray) -> None:
        raise failure

    verdict = judge(PAIR, raising)
    assert str(verdict) == (
        "FAIL: called with a (3, 2), b (2, 5), your function raised KeyError: 'line one\\nline two'"
    )
    assert verdict.error is failure
    assert "TypeError: one() takes 1 positional argument but 2 were given" in str(judge(PAIR, one))


def one(a: np.ndarray) -> None:
    """A function of the wrong number of arguments."""


def test_a_text_of_many_lines_becomes_one() -> None:
    def raising(a: np.ndarray, b: np.ndarray) -> None:
        raise ValueError("line one\n  line two")

    assert str(judge(PAIR, raising)).endswith("ValueError: line one line two")


def test_an_interrupt_is_not_a_verdict() -> None:
    def interrupted(a: np.ndarray, b: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(PAIR, interrupted)


def test_a_failure_at_a_later_case_counts() -> None:
    def failing(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        product, sums = product_and_sum(a, b)
        return product, sums if len(a) == 3 else -sums

    assert str(judge(PAIR, failing)) == "FAIL: sums: sign\nRight already: product"


@pytest.mark.parametrize("place", [0, 1])
def test_a_changed_input_fails_even_where_the_results_are_right(place: int) -> None:
    def changing(*given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        results = product_and_sum(*given)
        given[place][0, 0] += 1.0
        return results

    verdict = judge(PAIR, changing)
    assert str(verdict).startswith(
        f"FAIL: your function changed its input {'ab'[place]} in place; the caller still"
    )
    assert judge(PAIR, product_and_sum).passed


def test_an_input_that_holds_nan_is_not_called_changed() -> None:
    def holds_nan(rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
        return [(np.array([1.0, np.nan, 3.0]),)]

    largest = replace(
        PAIR, parameters=("a",), returns=("largest",), inputs=holds_nan, solution=np.nanmax, mistakes=()
    )
    assert judge(largest, np.nanmax).passed
    assert "in place" in str(judge(largest, lambda a: np.nan_to_num(a, copy=False).max()))


def test_two_mistakes_at_once_are_both_named_and_a_shared_one_once() -> None:
    assert str(verdict_of(lambda p, s: (-p, -s))) == "FAIL: product, sums: sign"
    both = judge(PAIR, lambda a, b: (-a @ b, a.sum(axis=0)))
    assert str(both) == "FAIL: product: sign; sums: columns"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, s: p, "expected a tuple of 2 arrays, product, sums; got one ndarray"),
        (lambda p, s: (p, s, s), "expected a tuple of 2 arrays, product, sums; got 3 values"),
        (lambda p, s: 0.5, "expected a tuple of 2 arrays, product, sums; got one float"),
        (lambda p, s: (p, None), "sums: is None, still to be written\nRight already: product"),
        (lambda p, s: (p, s.tolist()), "sums: is of type list, not a NumPy array\nRight already: product"),
        (
            lambda p, s: (p, s.sum()),
            "sums: has the wrong shape: got (), expected (3,)\nRight already: product",
        ),
        (
            lambda p, s: (p, s.astype(np.float32)),
            "sums: has dtype float32; the inputs are float64, so the result must be too\nRight already: product",
        ),
        (
            lambda p, s: (p.T, s),
            "product: is transposed: got shape (5, 3), expected (3, 5)\nRight already: sums",
        ),
        (
            lambda p, s: (p.T + 1.0, s),
            "product: has the wrong shape: got (5, 3), expected (3, 5): transposed?\nRight already: sums",
        ),
        (
            lambda p, s: (p, s[:, None]),
            "sums: has the wrong shape: got (3, 1), expected (3,)\nRight already: product",
        ),
        (
            lambda p, s: (p, np.array([1.0, np.nan, np.inf])),
            "sums: holds 2 numbers that are NaN or infinite, the first at [1]\nRight already: product",
        ),
        (lambda p, s: (0.0 * p, s), "product: is 0 everywhere\nRight already: sums"),
        (lambda p, s: (-2.5 * p, s), "product: is -2.5 times the right answer\nRight already: sums"),
    ],
)
def test_a_wrong_form_is_described(change: Callable[..., Any], message: str) -> None:
    assert str(verdict_of(change)) == f"FAIL: {message}"


def test_one_array_is_expected_where_one_is_asked_for() -> None:
    verdict = judge(SINGLE, lambda a, b: (a.sum(axis=1), b))
    assert str(verdict) == "FAIL: expected one array, sums; got 2 values"


def test_a_square_matrix_that_is_transposed_is_seen() -> None:
    square = Exercise(
        "square", ("a",), ("copy",), "", lambda rng: [(rng.standard_normal((3, 3)),)], lambda a: a.copy(), ()
    )
    verdict = judge(square, lambda a: a.T.copy())
    assert str(verdict) == "FAIL: copy: is transposed: got shape (3, 3), expected (3, 3)"


def test_an_arbitrary_wrong_value_is_located() -> None:
    def spoilt(product: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        product[1, 2] += 0.001
        product[2, 4] -= 0.125
        return product, sums

    product, _ = PAIR.answer(PAIR.cases()[0]).values()
    assert str(verdict_of(spoilt)) == (
        "FAIL: product: has the right shape and wrong values; the largest error is 0.12 at [2, 4]: "
        f"got {product[2, 4] - 0.125:.4g}, expected {product[2, 4]:.4g}\nRight already: sums"
    )


TOTAL = Exercise(
    name="total",
    parameters=("a", "b"),
    returns=("total",),
    asked="The sum of a.",
    inputs=inputs,
    solution=lambda a, b: float(a.sum()),
    mistakes=(Mistake("that is the mean", lambda a, b: {"total": a.mean()}),),
)


def test_a_lone_number_is_an_answer_of_any_real_kind() -> None:
    assert judge(TOTAL, lambda a, b: float(a.sum())).passed
    assert judge(TOTAL, lambda a, b: a.sum()).passed
    assert judge(TOTAL, lambda a, b: np.array(a.sum())).passed
    assert judge(TOTAL, lambda a, b: a.mean()).message == "total: that is the mean"
    assert judge(TOTAL, lambda a, b: 0).message == "total: is 0 everywhere"
    assert "total: is 7, expected " in judge(TOTAL, lambda a, b: 7).message
    assert "is of type bool" in judge(TOTAL, lambda a, b: True).message
    assert "has the wrong shape: got (3,), expected ()" in judge(TOTAL, lambda a, b: a[:, 0]).message
