"""Phase alignment of primes, the turn from query to key, and the resonance score that the original meant for attention.

Legend: D = d_head, p and q primes (positive integers), golden = 2 pi / phi^2 with phi = (1 + sqrt 5) / 2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.primes import IntArray, integer_array
from cllm_lab.lattice.similarity import positive_pair, reciprocal_gcd
from cllm_lab.lattice.spirals import LARGEST_NUMBER

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]

GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
PERIOD = 360


def phase_alignment(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """(1 + cos(2 pi (p - q) / (p + q))) / 2, in [0, 1]; float64 of the broadcast shape of p and q.

    A function of the ratio p / q alone, and not a falling one: 1 at p = q, 0 at p = 3 q and q = 3 p, and towards 1
    again as the ratio grows without bound. 2 and 104,729 are aligned to within 2e-8.

    The original subtracts in unsigned integers, so that p < q wraps round 2^64 and its cosine is taken of an angle
    of about 10^20 / (p + q), beyond the precision of its floats. This is the formula as meant.

    Raises TypeError unless both hold integers, ValueError below 1, too large, or for shapes that do not broadcast.
    """
    p, q = positive_pair(p, q, ("p", "q"))
    return np.asarray((1.0 + np.cos(2.0 * math.pi * (p - q) / (p + q))) / 2.0)


def turn_angles(primes: ArrayLike, d_head: int) -> FloatArray:
    """t_i = golden (p mod 360) i / D for i = 0, ..., D - 1, radians; float64 (*primes.shape, D).

    Raises TypeError unless ``primes`` holds integers, ValueError below 1 or for D below 1.
    """
    p = integer_array("primes", primes, 1, LARGEST_NUMBER)
    d_head = whole_number("d_head", d_head, 1)
    return GOLDEN_ANGLE * (p % PERIOD)[..., None] * (np.arange(d_head) / d_head)


def query_to_key_turn(queries: ArrayLike, primes: ArrayLike) -> Floats:
    """The first of the original's steps from query to key: k = R q, k_i = q_i cos t_i - q_{i+1} sin t_i, q_D being q_0.

    The original then adds 0.1 times the coordinates to the first three dimensions, and divides by sqrt(p).

    ``queries`` (..., D); ``primes`` broadcasts to (...); angles as `turn_angles`. float32 in, float32 out; else
    float64.

    Called a rotation, and none: the rows of R have length 1, but for D >= 3, i >= 1 and a prime that is no multiple of
    360, <row i, row i+1> = -sin t_i cos t_{i+1} is not 0 (t_0 is 0), so that R keeps lengths on the average over all
    directions (|R|_F² = D) and changes those of most vectors.
    det R = prod_i cos t_i: R is invertible for every prime, since the golden angle is no rational multiple of pi, but
    as badly conditioned as chance has it. `query_to_key_rotation` is a rotation.

    Raises TypeError unless queries are real numbers and primes integers, ValueError where the shapes do not agree.
    """
    q, t = _vectors_and_angles("queries", queries, primes)
    return q * np.cos(t).astype(q.dtype) - np.roll(q, -1, axis=-1) * np.sin(t).astype(q.dtype)


def query_to_key_turn_adjoint(gradient: ArrayLike, primes: ArrayLike) -> Floats:
    """R^T y for the R of `query_to_key_turn`: y_i cos t_i - y_{i-1} sin t_{i-1}, its backward pass (dq from dk).

    <R x, y> = <x, R^T y>. Shapes, dtypes and errors as there.
    """
    y, t = _vectors_and_angles("gradient", gradient, primes)
    return y * np.cos(t).astype(y.dtype) - np.roll(y * np.sin(t).astype(y.dtype), 1, axis=-1)


def query_to_key_rotation(queries: ArrayLike, primes: ArrayLike) -> Floats:
    """The rotation that the turn is not: each pair (q_2j, q_2j+1) turned by t_2j, orthogonal, determinant 1.

        k_2j = q_2j cos t_2j - q_2j+1 sin t_2j,   k_2j+1 = q_2j sin t_2j + q_2j+1 cos t_2j

    ``queries`` (..., D), D even; angles as `turn_angles`. The form of Su et al. 2021 (RoFormer, section 3.2.2), with
    the prime where they have the position. Raises as `query_to_key_turn`, and ValueError for an odd D.
    """
    return _rotate_pairs("queries", queries, primes, 1.0)


def query_to_key_rotation_adjoint(gradient: ArrayLike, primes: ArrayLike) -> Floats:
    """The rotation back, transpose and inverse of `query_to_key_rotation` at once. Raises as it does."""
    return _rotate_pairs("gradient", gradient, primes, -1.0)


def resonance_factor(distance: ArrayLike, p: ArrayLike, q: ArrayLike) -> FloatArray:
    """What resonance multiplies a score with: 1 / (1 + distance) · (1 + reciprocal_gcd(p, q)) · phase_alignment(p, q).

    In [0, 3/2]. ``distance``: non-negative, such as `cllm_lab.lattice.distances.lattice_distance`. All broadcast;
    float64. It is also the derivative of `resonance` in the score.

    Raises as `phase_alignment`, and ValueError for a negative distance, NaN or infinity.
    """
    p, q = positive_pair(p, q, ("p", "q"))
    apart: NDArray[Any] = np.asarray(distance, np.float64)
    if not (np.isfinite(apart).all() and (apart >= 0).all()):
        raise ValueError("distance must be finite and at least 0")
    return np.asarray((1.0 + reciprocal_gcd(p, q)) * phase_alignment(p, q) / (1.0 + apart))


def resonance(score: ArrayLike, distance: ArrayLike, p: ArrayLike, q: ArrayLike) -> FloatArray:
    """score · `resonance_factor`: the original's attention score, ``score`` being the dot product of key and query.

    Raises as `resonance_factor`.
    """
    return np.asarray(np.asarray(score, np.float64) * resonance_factor(distance, p, q))


def _rotate_pairs(name: str, values: ArrayLike, primes: ArrayLike, sense: float) -> Floats:
    x, t = _vectors_and_angles(name, values, primes)
    if x.shape[-1] % 2:
        raise ValueError(f"{name} must have an even last dimension, to be turned in pairs; got {x.shape[-1]}")
    cos, sin = np.cos(t[..., ::2]).astype(x.dtype), (sense * np.sin(t[..., ::2])).astype(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., ::2] = even * cos - odd * sin
    turned[..., 1::2] = even * sin + odd * cos
    return turned


def _vectors_and_angles(name: str, values: ArrayLike, primes: ArrayLike) -> tuple[Floats, FloatArray]:
    x: NDArray[Any] = np.asarray(values)
    if x.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64)
    if x.ndim == 0:
        raise ValueError(f"{name} must have shape (..., d_head), got a single number")
    p: IntArray = integer_array("primes", primes, 1, LARGEST_NUMBER)
    # Broadcasting the vectors instead would make the adjoint a sum, and this one wrong.
    try:
        fits = np.broadcast_shapes(p.shape, x.shape[:-1]) == x.shape[:-1]
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"primes must broadcast to {x.shape[:-1]}, the shape of {name} but for its last; got {p.shape}"
        )
    return x, turn_angles(p, x.shape[-1])
