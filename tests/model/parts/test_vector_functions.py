"""exp and tanh of compiled loops, against NumPy's in float64."""

import math

import numpy as np
import pytest

from cllm_lab.model.parts import vector_functions
from cllm_lab.model.parts.jit import compiled

EPSILON = np.finfo(np.float32).eps


@compiled
def exp_of(values, results):
    for i in range(values.size):
        results[i] = vector_functions.exp(values[i])


@compiled
def tanh_of(values, results):
    for i in range(values.size):
        results[i] = vector_functions.tanh(values[i])


def found(function, values, dtype):
    values = np.asarray(values, dtype)
    results = np.empty_like(values)
    function(values, results)
    return values.astype(np.float64), results


SMALL = np.random.default_rng(0).standard_normal(100_000) * 1e-3


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 3.0), ("float64", 1.0)])
def test_exp(dtype, bits):
    x, y = found(exp_of, np.concatenate([np.linspace(-87.0, 0.0, 400_001), -np.abs(SMALL)]), dtype)
    expected = np.exp(x)
    assert (np.abs(y - expected) / expected).max() <= bits * np.finfo(dtype).eps


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 2.0), ("float64", 3.0)])
def test_tanh(dtype, bits):
    x, y = found(tanh_of, np.concatenate([np.linspace(-12.0, 12.0, 400_000), SMALL]), dtype)
    expected = np.tanh(x)
    assert (np.abs(y - expected) / np.abs(expected)).max() <= bits * np.finfo(dtype).eps
    assert (np.abs(y) <= 1.0).all()


def test_the_ends():
    _, y = found(exp_of, [0.0, -88.0, -1e30, -np.inf, np.nan], "float32")
    assert y[0] == 1.0
    assert np.allclose(y[1:4], math.exp(-87.0), rtol=1e-6, atol=0.0)
    assert np.isnan(y[4])
    _, y = found(tanh_of, [0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, np.nan], "float32")
    assert y[:6].tolist() == [0.0, 0.0, 1.0, -1.0, 1.0, -1.0]
    assert np.isnan(y[6])


def test_outside_compiled_code_they_are_the_functions_of_the_c_library():
    assert vector_functions.exp(-1.5) == math.exp(-1.5)
    assert vector_functions.tanh(0.3) == math.tanh(0.3)
