import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cllm_lab.model.parts import kernels

# Every kernel sees these widths: below, at and above the eight or sixteen numbers of a vector register.
WIDTHS = [1, 2, 7, 8, 16, 33]
DTYPES = ("float32", "float64")
COMPILED = {name: value for name, value in vars(kernels).items() if hasattr(value, "py_func")}


def rows(width, dtype, seed=0, count=5):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(dtype)


def close(actual, expected, dtype, scale=1.0):
    return np.allclose(actual, expected, rtol=0, atol=32 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_gather_and_scatter(width, dtype):
    table, ids = rows(width, dtype, count=4), np.array([3, 0, 3, 3, 1], np.int32)
    out = np.empty((5, width), dtype)
    kernels.gather_rows(table, ids, out)
    assert np.array_equal(out, table[ids])
    total = np.ones((4, width), dtype)
    kernels.scatter_add_rows(total, ids, out)
    expected = np.ones((4, width), dtype)
    np.add.at(expected, ids, out)
    assert np.array_equal(total, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_shifted_below_zero_and_normalised_to_one(width, dtype):
    logits = rows(width, dtype, seed=1)
    targets = np.arange(5, dtype=np.int32) % width
    shifted, at_target, losses = np.empty_like(logits), np.empty(5, dtype), np.empty(5)
    kernels.shift_logits(logits, targets, shifted, at_target)
    assert np.array_equal(shifted, logits - logits.max(axis=1, keepdims=True))
    assert np.array_equal(at_target, shifted[np.arange(5), targets])
    exponentials = np.exp(shifted)
    kernels.cross_entropy(exponentials, at_target, losses)
    assert close(losses, np.log(np.exp(shifted.astype(float)).sum(axis=1)) - at_target, dtype, 4.0)
    assert close(exponentials.sum(axis=1), 1.0, dtype)
    kernels.normalise_rows(again := np.exp(shifted))
    assert np.array_equal(again, exponentials)


@pytest.mark.parametrize("largest", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_the_largest_is_found_wherever_it_stands(place, largest):
    logits = np.full((1, 7), -2.0)
    logits[0, place] = largest
    shifted = np.empty_like(logits)
    kernels.shift_logits(logits, np.array([place], np.int32), shifted, np.empty(1))
    assert shifted.max() == shifted[0, place] == 0.0
    scores = np.broadcast_to(logits, (7, 7)).copy()[None]
    masked = np.empty_like(scores)
    visible = np.tri(7, dtype=bool)
    kernels.masked_shift(scores, visible, masked)
    assert (masked.max(axis=-1) == 0.0).all()
    assert (masked[0][~visible] == -np.inf).all()
    assert np.array_equal(masked[0, 6], shifted[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", sorted(COMPILED))
def test_no_kernel_swallows_a_number_that_is_none(kernel, dtype):
    """A NaN anywhere in an input shows in an output, unless the kernel was not asked about that place."""
    for planted in KERNEL_INPUTS[kernel](dtype):
        outputs = planted()
        assert any(np.isnan(array).any() for array in outputs), kernel


def _planted(function, inputs, outputs, places):
    """Calls with a NaN at the first, a middle and the last entry of each of the named inputs."""
    for number in places:
        for place in (0, inputs[number].size // 2, inputs[number].size - 1):

            def call(number=number, place=place):
                given = [array.copy() for array in inputs]
                written = [np.zeros_like(array) for array in outputs]
                given[number].reshape(-1)[place] = math.nan
                function(given, written)
                return written

            yield call


def _line(dtype, size=9):
    return np.linspace(0.5, 1.5, size).astype(dtype)


def _kernel_inputs():
    ids = np.arange(5, dtype=np.int32)
    visible = np.tri(9, dtype=bool)

    def case(function, make, places):
        return lambda dtype: _planted(function, *make(dtype), places)

    def three(dtype):
        return [rows(9, dtype), rows(9, dtype, 1), rows(9, dtype, 2)]

    return {
        "layer_norm": case(
            lambda i, o: kernels.layer_norm(i[0], i[1], i[2], 1e-5, *o),
            lambda d: ([rows(9, d), _line(d), _line(d)], [rows(9, d), _line(d, 5), rows(9, d)]),
            (0, 1, 2),
        ),
        "layer_norm_gradient": case(
            lambda i, o: kernels.layer_norm_gradient(i[0], i[1], i[2], i[3], *o),
            lambda d: ([*three(d)[:2], _line(d, 5), _line(d)], [rows(9, d), _line(d), _line(d)]),
            (0, 1, 2, 3),
        ),
        "masked_shift": case(
            lambda i, o: kernels.masked_shift(i[0], visible, o[0]),
            # The last row of a (9, 9) square sees all of it; rows above it do not.
            lambda d: ([rows(9, d, count=9)[None]], [rows(9, d, count=9)[None]]),
            (0,),
        ),
        "normalise_rows": case(
            lambda i, o: (o[0].__setitem__(..., i[0]), kernels.normalise_rows(o[0])),
            lambda d: ([rows(9, d)], [rows(9, d)]),
            (0,),
        ),
        "softmax_gradient": case(
            lambda i, o: kernels.softmax_gradient(i[0], i[1], o[0]),
            lambda d: (three(d)[:2], three(d)[:1]),
            (0, 1),
        ),
        "tanh_gradient": case(
            lambda i, o: kernels.tanh_gradient(i[0], i[1], o[0]),
            lambda d: (three(d)[:2], three(d)[:1]),
            (0, 1),
        ),
        "gelu_argument": case(
            lambda i, o: kernels.gelu_argument(i[0], i[1][0], i[1][1], o[0]),
            lambda d: ([rows(9, d), _line(d, 2)], three(d)[:1]),
            (0, 1),
        ),
        "gelu_gate": case(
            lambda i, o: kernels.gelu_gate(i[0], i[1], o[0]), lambda d: (three(d)[:2], three(d)[:1]), (0, 1)
        ),
        "gelu_gradient": case(
            lambda i, o: kernels.gelu_gradient(i[0], i[1], i[2], i[3][0], i[3][1], o[0]),
            lambda d: ([*three(d), _line(d, 2)], three(d)[:1]),
            (0, 1, 2, 3),
        ),
        "shift_logits": case(
            lambda i, o: kernels.shift_logits(i[0], ids, *o),
            lambda d: (three(d)[:1], [rows(9, d), _line(d, 5)]),
            (0,),
        ),
        "cross_entropy": case(
            lambda i, o: (o[1].__setitem__(..., i[0]), kernels.cross_entropy(o[1], i[1], o[0])),
            lambda d: ([np.abs(rows(9, d)), _line(d, 5)], [np.zeros(5), rows(9, d)]),
            (0, 1),
        ),
        "cross_entropy_gradient": case(
            lambda i, o: kernels.cross_entropy_gradient(i[0], ids, o[0]),
            lambda d: (three(d)[:1], three(d)[:1]),
            (0,),
        ),
        "gather_rows": case(
            lambda i, o: kernels.gather_rows(i[0], ids, o[0]), lambda d: (three(d)[:1], three(d)[:1]), (0,)
        ),
        "scatter_add_rows": case(
            lambda i, o: kernels.scatter_add_rows(o[0], ids, i[0]),
            lambda d: (three(d)[:1], three(d)[:1]),
            (0,),
        ),
    }


KERNEL_INPUTS = _kernel_inputs()


def test_every_kernel_has_a_case_above():
    assert set(KERNEL_INPUTS) == set(COMPILED)


@pytest.mark.parametrize("dtype", DTYPES)
def test_warming_up_compiles_every_kernel_and_says_which(dtype):
    said = []
    kernels.warm_up(said.append, dtype)
    assert [line.split()[0] for line in said] == ["compiling"] * len(COMPILED)
    assert {line.split()[2] for line in said} == set(COMPILED)
    assert [line.split()[1] for line in said] == [f"{n}/{len(COMPILED)}" for n in range(1, len(COMPILED) + 1)]
    assert all(line.endswith(f"({dtype})") for line in said)


SIGNATURES = """
from cllm_lab.model.parts import kernels
from tests.model.configurations import by_name
compiled = [value for value in vars(kernels).values() if hasattr(value, "py_func")]
for dtype in ("float32", "float64"):
    kernels.warm_up(lambda line: None, dtype)
before = [len(kernel.signatures) for kernel in compiled]
for dtype in ("float32", "float64"):
    for name in ("default", "post-untied-gelu-sinusoidal", "dropout", "one-token", "no-attention-gelu"):
        case = by_name(name)
        case.model("fast", dtype).gradients(*case.tokens_and_targets(), case.dropout_seed)
after = [len(kernel.signatures) for kernel in compiled]
assert before == after == [2] * len(compiled), (before, after)
"""


def test_after_warming_up_no_machine_compiles_anything():
    # In a process of its own, since the other tests have compiled what they needed.
    root = Path(__file__).parents[3]
    finished = subprocess.run([sys.executable, "-c", SIGNATURES], cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("kernel", sorted(COMPILED))
def test_the_compiler_may_not_assume_that_all_numbers_are_finite(kernel):
    """With "nnan" or "ninf" what it makes of a NaN is anything, even where it happens to be right today."""
    allowed = COMPILED[kernel].targetoptions["fastmath"]
    assert isinstance(allowed, set), "True stands for all flags"
    assert not {"nnan", "ninf", "fast"} & allowed


def test_no_kernel_calls_another():
    """The cache of compiled code does not notice an edited callee, and would serve the old result."""
    called = {
        name: set(kernel.py_func.__code__.co_names) & set(COMPILED) for name, kernel in COMPILED.items()
    }
    assert {name: names for name, names in called.items() if names} == {}
