"""exp and tanh for compiled loops over float32, in forms that the compiler turns into vector instructions.

The compiler's own exp and tanh are calls of the C library, one number at a time. In float64, where accuracy matters
more than time, they are used as they are. Not a number stays not a number in both.

With y = n ln 2 + r, n whole and |r| <= ln 2 / 2:  exp(y) - 1 = 2^n p + (2^n - 1),  p = exp(r) - 1 by its series.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

_LOG2_E = np.float32(1.0 / math.log(2.0))
# ln 2 in two parts, the first of so few bits that n times it is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(math.log(2.0) - 0.693359375)
_SERIES = tuple(np.float32(1.0 / math.factorial(k)) for k in range(2, 8))
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)
# 2^-126 is the smallest normal number; exp is taken of nothing above 0 but tanh's argument.
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(87.0)
# Beyond it tanh is 1 in float32.
_TANH_END = np.float32(10.0)
_EXPONENT_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


def exp(y):
    """e^y. In float32 for y <= 87; below -87 the result is e^-87, about 1.6e-38."""
    return math.exp(y)


def tanh(h):
    """(e^2h - 1) / (e^2h + 1)."""
    return math.tanh(h)


@register_jitable
def _power_and_rest(y):
    """(2^n, exp(r) - 1) of a float32 between -87 and 87."""
    n = np.float32(math.floor(y * _LOG2_E + _HALF))
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = _SERIES[5]
    p = p * r + _SERIES[4]
    p = p * r + _SERIES[3]
    p = p * r + _SERIES[2]
    p = p * r + _SERIES[1]
    p = p * r + _SERIES[0]
    p = p * r * r + r
    power = np.int32((np.int32(n) + _EXPONENT_BIAS) << _MANTISSA_BITS).view(np.float32)
    return power, p


@register_jitable
def _exp32(y):
    bounded = y if y > _LOWEST else _LOWEST
    bounded = bounded if bounded < _HIGHEST else _HIGHEST
    power, rest = _power_and_rest(bounded)
    return power * rest + power if y == y else y


@register_jitable
def _tanh32(h):
    bounded = h if h > -_TANH_END else -_TANH_END
    bounded = bounded if bounded < _TANH_END else _TANH_END
    power, rest = _power_and_rest(_TWO * bounded)
    minus_one = power * rest + (power - _ONE)
    return minus_one / (minus_one + _TWO) if h == h else h


@overload(exp)
def _overload_exp(y):
    if y == types.float32:
        return lambda y: _exp32(y)
    return lambda y: math.exp(y)


@overload(tanh)
def _overload_tanh(h):
    if h == types.float32:
        return lambda h: _tanh32(h)
    return lambda h: math.tanh(h)
