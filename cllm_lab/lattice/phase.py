"""Phase alignment of primes, the original's way from query to key, and the resonance score it meant for attention.

Legend: D = d_head, p and q primes (positive integers), golden = 2 pi / phi^2 with phi = (1 + sqrt 5) / 2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import (
    FloatArray,
    IntArray,
    finite_array,
    integer_array,
    real_array,
    require_broadcast,
)
from cllm_lab.lattice.similarity import half_or_reciprocal, positive_pair
from cllm_lab.lattice.spirals import LARGEST_NUMBER

Floats = NDArray[np.floating[Any]]

GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))
PERIOD = 360
COORDINATE_WEIGHT = 0.1


def phase_alignment(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """(1 + cos(2 pi (p - q) / (p + q))) / 2, in [0, 1]; float64 of the broadcast shape of p and q.

    A function of the ratio p / q alone, and not a falling one: 1 at p = q, 0 at p = 3 q and q = 3 p, and towards 1
    again as the ratio grows without bound. 2 and 104,729 are aligned to within 2e-8.

    The original subtracts in unsigned integers, so that p < q wraps round 2^64 and its cosine is taken of an angle
    of about 10^20 / (p + q), beyond the precision of its floats. This is the formula as meant.

    Raises TypeError unless both hold integers, ValueError below 1, too large, or for shapes that do not broadcast.
    """
    return _alignment(*positive_pair(p, q, ("p", "q")))


def turn_angles(primes: ArrayLike, d_head: int) -> FloatArray:
    """t_i = golden (p mod 360) i / D for i = 0, ..., D - 1, radians; float64 (*primes.shape, D).

    Raises TypeError unless ``primes`` holds integers, ValueError below 1 or for D below 1.
    """
    p = integer_array("primes", primes, 1, LARGEST_NUMBER)
    d_head = whole_number("d_head", d_head, 1)
    return GOLDEN_ANGLE * (p % PERIOD)[..., None] * (np.arange(d_head) / d_head)


def query_to_key_turn(queries: ArrayLike, primes: ArrayLike) -> Floats:
    """The first of the original's steps from query to key: k = R q, k_i = q_i cos t_i - q_{i+1} sin t_i, q_D being q_0.

    `historical_key` takes the other two as well. ``queries`` (..., D); ``primes`` broadcasts to (...); angles as
    `turn_angles`. float32 in, float32 out; else float64.

    Called a rotation, and none: the rows of R have length 1, but for D >= 3 and i >= 1, <row i, row i+1> =
    -sin t_i cos t_{i+1} is not 0 (t_0 is 0), so that R keeps squared lengths on the average over all directions
    (|R|_F² = D) and changes those of most vectors.
    det R = prod_i cos t_i: R is invertible for every prime, since the golden angle is no rational multiple of pi, but
    as badly conditioned as chance has it. `query_to_key_rotation` is a rotation.

    Raises TypeError unless queries are real numbers and primes integers, ValueError where the shapes do not agree.
    """
    q, t = _vectors_and_angles("queries", queries, primes)
    return _turned(q, t)


def query_to_key_turn_adjoint(gradient: ArrayLike, primes: ArrayLike) -> Floats:
    """R^T y for the R of `query_to_key_turn`: y_i cos t_i - y_{i-1} sin t_{i-1}, its backward pass (dq from dk).

    <R x, y> = <x, R^T y>. Shapes, dtypes and errors as there.
    """
    y, t = _vectors_and_angles("gradient", gradient, primes)
    return _turned_back(y, t)


def historical_key(queries: ArrayLike, primes: ArrayLike, coordinates: ArrayLike) -> Floats:
    """All three of the original's steps from query to key, k = (R q + 0.1 S c) / sqrt(p):

    1. R q, the turn: `query_to_key_turn`;
    2. 0.1 times (x, y, z) of the token are added to dimensions 0, 1 and 2, which is what S does;
    3. all of it is divided by sqrt(p), the added coordinates too.

    ``queries`` (..., D), D at least 3; ``primes`` broadcasts to (...), ``coordinates``, such as
    `cllm_lab.lattice.spirals.lattice_coordinates`, to (..., 3). float32 in, float32 out; else float64.

    Affine, not linear: a query of zeros has the key 0.1 S c / sqrt(p), the same at every step of training. The division
    makes keys shorter by the root of their prime, 324 times for 104,729, as if each token had a temperature of its own.
    x and y grow with sqrt(id), so that what is added shrinks as 1 / sqrt(ln(id)) alone, and outlasts R q.

    Raises as `query_to_key_turn`, and ValueError for D below 3 and coordinates that are not finite or do not fit.
    """
    q, t = _vectors_and_angles("queries", queries, primes)
    key = _turned(q, t)
    _require_three(q.shape[-1])
    place = finite_array("coordinates", coordinates)
    if not _fits(place.shape, (*q.shape[:-1], 3)):
        raise ValueError(f"coordinates must broadcast to {(*q.shape[:-1], 3)}, got {place.shape}")
    key[..., :3] += (COORDINATE_WEIGHT * place).astype(q.dtype)
    return key * _reciprocal_root(primes, q.dtype)


def historical_key_adjoint(gradient: ArrayLike, primes: ArrayLike) -> Floats:
    """R^T y / sqrt(p), the adjoint of the linear part of `historical_key`, its backward pass (dq from dk).

    The coordinates do not enter: they are no function of the query.
    <historical_key(x, p, c) - historical_key(0, p, c), y> = <x, this>. Shapes, dtypes and errors as there.
    """
    y, t = _vectors_and_angles("gradient", gradient, primes)
    _require_three(y.shape[-1])
    return _turned_back(y, t) * _reciprocal_root(primes, y.dtype)


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

    Raises as `phase_alignment`, TypeError unless the distance is a real number, ValueError for a negative one, NaN or
    infinity.
    """
    p, q = positive_pair(p, q, ("p", "q"))
    apart = finite_array("distance", distance)
    if (apart < 0.0).any():
        raise ValueError(f"distance must be at least 0, got {apart.min()}")
    require_broadcast(distance=apart.shape, p=p.shape, q=q.shape)
    return np.asarray((1.0 + half_or_reciprocal(np.gcd(p, q))) * _alignment(p, q) / (1.0 + apart))


def resonance(score: ArrayLike, distance: ArrayLike, p: ArrayLike, q: ArrayLike) -> FloatArray:
    """score · `resonance_factor`: the original's attention score, ``score`` being the dot product of key and query.

    A causal mask comes after it: the factor may be 0, and 0 times minus infinity is no score.
    Raises as `resonance_factor`, and for a score that is no real number, is NaN or is infinite.
    """
    dot = finite_array("score", score)
    factor = resonance_factor(distance, p, q)
    require_broadcast(score=dot.shape, distance=np.shape(distance), p=np.shape(p), q=np.shape(q))
    return np.asarray(dot * factor)


def _alignment(p: IntArray, q: IntArray) -> FloatArray:
    return np.asarray((1.0 + np.cos(2.0 * math.pi * (p - q) / (p + q))) / 2.0)


def _turned(q: Floats, t: FloatArray) -> Floats:
    return np.asarray(q * np.cos(t).astype(q.dtype) - np.roll(q, -1, axis=-1) * np.sin(t).astype(q.dtype))


def _turned_back(y: Floats, t: FloatArray) -> Floats:
    return np.asarray(y * np.cos(t).astype(y.dtype) - np.roll(y * np.sin(t).astype(y.dtype), 1, axis=-1))


def _reciprocal_root(primes: ArrayLike, dtype: np.dtype[Any]) -> Floats:
    return np.asarray(1.0 / np.sqrt(np.asarray(primes, np.float64))[..., None]).astype(dtype)


def _require_three(d_head: int) -> None:
    if d_head < 3:
        raise ValueError(f"d_head must be at least 3, the number of coordinates; got {d_head}")


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether ``shape`` broadcasts to ``target``. Broadcasting the target instead would make the adjoint a sum."""
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


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
    x = real_array(name, values)
    if x.ndim == 0:
        raise ValueError(f"{name} must have shape (..., d_head), got a single number")
    p: IntArray = integer_array("primes", primes, 1, LARGEST_NUMBER)
    if not _fits(p.shape, x.shape[:-1]):
        raise ValueError(
            f"primes must broadcast to {x.shape[:-1]}, the shape of {name} but for its last; got {p.shape}"
        )
    return x, turn_angles(p, x.shape[-1])
