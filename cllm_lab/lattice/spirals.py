"""Places of numbers on spirals, and the embeddings of token ids that the original made of them.

    spiral position   r = sqrt(n), angle = 2 pi t n, z = ln(n + 1);  x = r cos(angle), y = r sin(angle)
    Ulam's square     1 in the middle, 2 to its right, then round it counter-clockwise

t is a fraction of a turn. The golden angle is t = 1 / phi^2, phi = (1 + sqrt 5) / 2: 137.5 degrees, 2.39996323 radians.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import FloatArray, IntArray, finite_array, integer_array, require_broadcast

# float64 holds every whole number to here, so that sqrt and ln see n itself.
LARGEST_NUMBER = 2**53
# (2 k + 1)^2 of the ring k that n lies on must fit into int64.
LARGEST_ON_SQUARE = 2**62
LARGEST_COORDINATE = 2**30

SYMMETRY_ORDER = 12

# 1 / phi^2 = (3 - sqrt 5) / 2 in units of 2^-128, rounded up.
_GOLDEN_128 = (3 * 2**128 - math.isqrt(5 * 2**256)) // 2
_LOW_32 = 2**32 - 1


def spiral_angle(n: ArrayLike, angle: str = "golden") -> FloatArray:
    """The angle of n >= 0 in radians, in [-pi, pi), float64 of the shape of n; ``angle`` is one of `ANGLES`:

    - "golden": 2 pi n / phi^2 (Vogel 1979). The turn is a fixed-point number of 128 bits and whole turns
      drop out exactly, so that the error is below 1e-15 radians for every n.
    - "golden-complement": 2 pi n / phi. As 1 / phi + 1 / phi^2 = 1, this is the golden angle the other way round, the
      mirror image: the two formulas "by the golden ratio" place alike but for the sign of y.
    - "golden-float32": the product 2.39996323 n in single precision, as the original computes it. It is off by up to
      0.002 radians at n = 10^4, 0.2 at 10^6 and 2 at 10^7, where the place on the spiral is an accident.
    - "twelfth": 2 pi n / 12, the clock face: twelve rays.

    Raises TypeError unless n holds integers, ValueError outside [0, `LARGEST_NUMBER`] or for an unknown angle.
    """
    if angle not in ANGLES:
        raise ValueError(f"angle must be one of {', '.join(ANGLES)}; got {angle!r}")
    number = integer_array("n", n, 0, LARGEST_NUMBER)
    # NumPy warns where a single unsigned integer wraps round, not where those of an array do.
    return _ANGLES[angle](np.atleast_1d(number)).reshape(number.shape)


def spiral_position(n: ArrayLike, angle: str = "golden") -> FloatArray:
    """(x, y, z) of n >= 0: (sqrt(n) cos a, sqrt(n) sin a, ln(n + 1)) with a = `spiral_angle`; float64 (*n.shape, 3).

    x and y are Vogel's sunflower (1979); the height ln(n + 1) is the original's. Raises as `spiral_angle`.
    """
    return _cylinder(integer_array("n", n, 0, LARGEST_NUMBER), spiral_angle(n, angle))


def lattice_coordinates(ids: ArrayLike, primes: ArrayLike, angle: str = "golden") -> FloatArray:
    """(x, y, z) of tokens: x and y are those of the id on the spiral, z = ln(p + 1) is of its prime; (*shape, 3).

    ``ids`` and ``primes`` have one shape. They are the places of primes in a list, from 0, and the primes.

    Raises TypeError unless both hold integers, ValueError for shapes that differ, values outside
    [0, `LARGEST_NUMBER`], or an unknown angle.
    """
    n, p = _ids_and_primes(ids, primes)
    coordinates = _cylinder(n, spiral_angle(n, angle))
    coordinates[..., 2] = np.log1p(p)
    return coordinates


def lattice_embedding(
    ids: ArrayLike, primes: ArrayLike, d_model: int, coordinates: ArrayLike | None = None
) -> FloatArray:
    """The original's embedding of tokens, float64 (*ids.shape, d_model), every row of Euclidean length 1. Before that,

        e_f = 0.3 sin(f x / 10) + 0.3 cos(f y / 10) + 0.3 sin(f z / 10) + 0.1 cos(2 pi f (p mod 12) / 12)

    for f = 1, ..., d_model, p being the token's prime. (x, y, z) is ``coordinates`` (*ids.shape, 3), by default
    `spiral_position` (ids), whose height is z = ln(id + 1): the formula as the original computes it from an id. The
    places that it stored have z = ln(p + 1) instead, which is `lattice_coordinates`, and a small perturbation; pass
    those as ``coordinates`` for its other form. None is added here.

    The primes enter through p mod 12 alone. That is 1, 5, 7 or 11 for all primes above 3, and the cosine gives 1 and
    11, 5 and 7 the same value, so that the prime part has two patterns. It repeats with f, period 12.

    Raises TypeError for ids or primes that are no integers and coordinates that are no real numbers, ValueError for
    shapes that do not agree, values outside [0, `LARGEST_NUMBER`], coordinates that are not finite, or d_model below 1.
    """
    n, p = _ids_and_primes(ids, primes)
    frequency = _frequencies(d_model)
    turn = (p % SYMMETRY_ORDER)[..., None] * frequency.astype(np.int64) % SYMMETRY_ORDER
    phase = 0.1 * np.cos((2.0 * np.pi / SYMMETRY_ORDER) * turn)
    return _unit_rows(_waves(n, coordinates, frequency) + phase)


def spiral_embedding(ids: ArrayLike, d_model: int, coordinates: ArrayLike | None = None) -> FloatArray:
    """`lattice_embedding` without the prime: the three waves of 0.3 alone, rows of length 1. Raises as it does.

    By default no prime enters: the height of `spiral_position` is ln(id + 1).
    """
    n = integer_array("ids", ids, 0, LARGEST_NUMBER)
    return _unit_rows(_waves(n, coordinates, _frequencies(d_model)))


def ulam_coordinates(n: ArrayLike) -> tuple[IntArray, IntArray]:
    """(x, y) of n >= 1 on the square spiral of Stein, Ulam and Wells (1964), each int64 of the shape of n; exact.

    1 is at (0, 0), 2 at (1, 0), 3 at (1, 1), 4 at (0, 1): counter-clockwise, y upwards. Ring k, the numbers with
    max(|x|, |y|) = k, ends with (2 k + 1)^2 at (k, -k).

    Raises TypeError unless n holds integers, ValueError outside [1, `LARGEST_ON_SQUARE`].
    """
    number = integer_array("n", n, 1, LARGEST_ON_SQUARE)
    k = (_integer_root(number - 1) + 1) // 2
    side = 2 * k
    back = (2 * k + 1) ** 2 - number
    sides = [back <= side, back <= 2 * side, back <= 3 * side]
    x = np.select(sides, [k - back, -k, back - 2 * side - k], k)
    y = np.select(sides, [-k, back - side - k, k], k - (back - 3 * side))
    return x, y


def ulam_number(x: ArrayLike, y: ArrayLike) -> IntArray:
    """The number at (x, y) of the square spiral, int64 of their common shape; the inverse of `ulam_coordinates`.

    Raises TypeError unless both hold integers, ValueError for coordinates beyond +-`LARGEST_COORDINATE` or shapes that
    cannot be broadcast.
    """
    across = integer_array("x", x, -LARGEST_COORDINATE, LARGEST_COORDINATE)
    up = integer_array("y", y, -LARGEST_COORDINATE, LARGEST_COORDINATE)
    require_broadcast(x=across.shape, y=up.shape)
    k = np.maximum(np.abs(across), np.abs(up))
    side = 2 * k
    sides = [up == -k, across == -k, up == k]
    back = np.select(sides, [k - across, side + k + up, 2 * side + k + across], 3 * side + k - up)
    return (2 * k + 1) ** 2 - back


def _golden(n: IntArray) -> FloatArray:
    return _radians(_golden_turn(n))


def _golden_complement(n: IntArray) -> FloatArray:
    return _radians(np.uint64(0) - _golden_turn(n))


def _golden_float32(n: IntArray) -> FloatArray:
    angle = np.float32(2.0 * math.pi * _GOLDEN_128 / 2**128) * n.astype(np.float32)
    turned: FloatArray = angle.astype(np.float64) + math.pi
    return turned % (2.0 * math.pi) - math.pi


def _twelfth(n: IntArray) -> FloatArray:
    hours = (n + SYMMETRY_ORDER // 2) % SYMMETRY_ORDER - SYMMETRY_ORDER // 2
    return hours.astype(np.float64) * (2.0 * math.pi / SYMMETRY_ORDER)


_ANGLES = {
    "golden": _golden,
    "golden-complement": _golden_complement,
    "golden-float32": _golden_float32,
    "twelfth": _twelfth,
}
ANGLES = tuple(_ANGLES)


def _golden_turn(n: IntArray) -> NDArray[np.uint64]:
    """The fraction of a turn, n / phi^2 - floor(n / phi^2), in units of 2^-64; off by less than 2^-62 for n < 2^53."""
    number = n.astype(np.uint64)
    low, high = number & np.uint64(_LOW_32), number >> np.uint64(32)
    return _short_product(low, _GOLDEN_128) + _short_product(high, (_GOLDEN_128 << 32) % 2**128)


def _short_product(n: NDArray[np.uint64], fraction: int) -> NDArray[np.uint64]:
    """Bits 64 to 127 of n * fraction for n < 2^32 and a fraction of 128 bits, modulo 2^64; the last may be 1 short."""
    top, next_32 = np.uint64(fraction >> 64), np.uint64(fraction >> 32 & _LOW_32)
    return n * top + (n * next_32 >> np.uint64(32))


def _radians(turn: NDArray[np.uint64]) -> FloatArray:
    """Half a turn and more counts backwards, so that small angles keep all their bits."""
    return turn.view(np.int64).astype(np.float64) * (2.0 * math.pi / 2**64)


def _cylinder(n: IntArray, angle: FloatArray) -> FloatArray:
    radius = np.sqrt(n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.log1p(n)], axis=-1)


def _ids_and_primes(ids: ArrayLike, primes: ArrayLike) -> tuple[IntArray, IntArray]:
    n = integer_array("ids", ids, 0, LARGEST_NUMBER)
    p = integer_array("primes", primes, 0, LARGEST_NUMBER)
    if n.shape != p.shape:
        raise ValueError(f"primes must have the shape of ids, {n.shape}; got {p.shape}")
    return n, p


def _frequencies(d_model: int) -> FloatArray:
    return np.arange(1, whole_number("d_model", d_model, 1) + 1, dtype=np.float64)


def _waves(n: IntArray, coordinates: ArrayLike | None, frequency: FloatArray) -> FloatArray:
    place = spiral_position(n) if coordinates is None else finite_array("coordinates", coordinates)
    if place.shape != (*n.shape, 3):
        raise ValueError(f"coordinates must have shape {(*n.shape, 3)}, got {place.shape}")
    step = frequency / 10.0
    rows: FloatArray = np.sin(place[..., 0, None] * step)
    rows += np.cos(place[..., 1, None] * step)
    rows += np.sin(place[..., 2, None] * step)
    return 0.3 * rows


def _unit_rows(rows: FloatArray) -> FloatArray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _integer_root(n: IntArray) -> IntArray:
    """floor(sqrt(n)), exactly, for n <= 2^62: rounding in float64 may lift the root to k where n = k^2 - 1, and never
    takes it below k where n = k^2.
    """
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    return root - (root * root > n)
