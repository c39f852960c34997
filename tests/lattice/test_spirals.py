"""Spirals against decimal arithmetic of 60 digits, a walk round the square, and formulas written out."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.lattice.primes import primes_below
from cllm_lab.lattice.spirals import (
    ANGLES,
    LARGEST_COORDINATE,
    LARGEST_NUMBER,
    LARGEST_ON_SQUARE,
    lattice_coordinates,
    lattice_embedding,
    spiral_angle,
    spiral_embedding,
    spiral_position,
    ulam_coordinates,
    ulam_number,
)

NUMBERS = st.integers(0, 10**7) | st.integers(0, LARGEST_NUMBER)


def exact_angle(n, sign=1):
    """2 pi n / phi^2, whole turns taken off in 60 digits, in [-pi, pi)."""
    with localcontext() as context:
        context.prec = 60
        phi = (1 + Decimal(5).sqrt()) / 2
        turns = sign * n / phi**2
        turns -= turns.to_integral_value(rounding="ROUND_FLOOR")
        return float(turns - (turns >= Decimal("0.5"))) * 2 * math.pi


def apart(a, b):
    """The angle between two angles."""
    return abs(math.remainder(a - b, 2 * math.pi))


@given(NUMBERS)
def test_the_golden_angle_is_right_to_the_last_bits(n):
    assert abs(spiral_angle(n) - exact_angle(n)) <= 2 * math.ulp(math.pi)
    assert abs(spiral_angle(n, "golden-complement") - exact_angle(n, -1)) <= 2 * math.ulp(math.pi)


def test_the_golden_angle_stays_right_where_a_product_in_float64_does_not():
    numbers = np.arange(9_990_000, 10_000_001)
    found = spiral_angle(numbers)
    worst = max(apart(a, exact_angle(n)) for a, n in zip(found.tolist(), numbers.tolist(), strict=True))
    naive = numbers * (2 * math.pi / ((1 + math.sqrt(5)) / 2) ** 2)
    worst_naive = max(apart(a, b) for a, b in zip(naive.tolist(), found.tolist(), strict=True))
    assert worst < 1e-15 < 1e-10 < worst_naive


def test_the_golden_angle_itself():
    assert spiral_angle(1) == pytest.approx(2.39996323, abs=5e-9)
    assert math.degrees(spiral_angle(1)) == pytest.approx(137.50776405, abs=1e-8)


def test_small_angles_keep_their_bits():
    # Fibonacci numbers come near to whole turns: n / phi^2 is off a whole number by about 1 / (sqrt 5 n).
    fibonacci = [1, 2]
    while fibonacci[-1] < 10**15:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for n in fibonacci[20:40]:
        assert spiral_angle(n) == pytest.approx(exact_angle(n), rel=1e-6, abs=0)
        assert abs(spiral_angle(n)) == pytest.approx(2 * math.pi / (math.sqrt(5) * n), rel=1e-6)


@given(NUMBERS)
def test_the_complement_is_the_mirror_image(n):
    assert apart(spiral_angle(n, "golden-complement"), -spiral_angle(n)) < 1e-15
    # 2 pi n / phi, the other formula in use, is the same angle.
    with localcontext() as context:
        context.prec = 60
        turns = Decimal(n) * 2 / (1 + Decimal(5).sqrt()) % 1
    assert apart(spiral_angle(n, "golden-complement"), float(turns) * 2 * math.pi) < 2e-15


@given(st.integers(0, 1_000))
def test_the_twelfth_is_the_clock(n):
    assert apart(spiral_angle(n, "twelfth"), 2 * math.pi * n / 12) < 1e-12
    assert spiral_angle(n, "twelfth") == spiral_angle(n + 12 * 10**9, "twelfth")


def test_the_clock_has_twelve_rays():
    assert len(np.unique(spiral_angle(np.arange(10_000), "twelfth"))) == 12


def test_single_precision_loses_the_angle():
    for end, least, most in ((10_000, 0.001, 0.002), (10**6, 0.1, 0.25), (10**7, 1.0, 1.7)):
        numbers = np.arange(end - 1_000, end + 1)
        difference = spiral_angle(numbers, "golden-float32") - spiral_angle(numbers)
        error = max(abs(math.remainder(d, 2 * math.pi)) for d in difference.tolist())
        assert least < error < most
    n = np.arange(10_000)
    single = np.float32(2.39996323) * n.astype(np.float32)
    difference = spiral_angle(n, "golden-float32") - single.astype(np.float64)
    assert max(abs(math.remainder(d, 2 * math.pi)) for d in difference.tolist()) < 1e-11


@pytest.mark.parametrize("angle", ANGLES)
def test_angles_lie_in_one_turn_and_keep_the_shape(angle):
    n = np.arange(60_000).reshape(100, 600)
    found = spiral_angle(n, angle)
    assert found.shape == n.shape and found.dtype == np.float64
    assert found.min() >= -math.pi and found.max() < math.pi
    assert spiral_angle(7, angle) == spiral_angle([7], angle)[0]
    assert spiral_angle(0, angle) == pytest.approx(0.0, abs=1e-15)
    assert spiral_angle(np.empty((2, 0), np.int64), angle).shape == (2, 0)


@given(NUMBERS, st.sampled_from(ANGLES))
def test_positions(n, angle):
    x, y, z = spiral_position(n, angle)
    a = float(spiral_angle(n, angle))
    assert math.hypot(x, y) == pytest.approx(math.sqrt(n), rel=1e-15)
    assert (x, y) == pytest.approx(
        (math.sqrt(n) * math.cos(a), math.sqrt(n) * math.sin(a)), rel=1e-13, abs=1e-12
    )
    assert z == pytest.approx(math.log(n + 1), rel=1e-15)


def test_positions_of_many():
    n = np.array([[1, 50], [7, 0]])
    found = spiral_position(n)
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found[1, 0], spiral_position(7))
    assert found[1, 1].tolist() == [0.0, 0.0, 0.0]


def test_lattice_coordinates_take_the_height_from_the_prime():
    ids = np.arange(100)
    primes = primes_below(542)
    found = lattice_coordinates(ids, primes)
    np.testing.assert_array_equal(found[:, :2], spiral_position(ids)[:, :2])
    np.testing.assert_allclose(found[:, 2], [math.log(p + 1) for p in primes.tolist()], rtol=1e-15)
    np.testing.assert_array_equal(
        lattice_coordinates(ids, primes, "twelfth")[:, :2], spiral_position(ids, "twelfth")[:, :2]
    )


def written_out(place, prime, d_model, prime_part):
    x, y, z = place
    row = []
    for f in range(1, d_model + 1):
        value = 0.3 * math.sin(f * x / 10) + 0.3 * math.cos(f * y / 10) + 0.3 * math.sin(f * z / 10)
        row.append(value + prime_part * 0.1 * math.cos(2 * math.pi * f * (prime % 12) / 12))
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6), st.integers(1, 40))
@settings(max_examples=40)
def test_embeddings(ids, d_model):
    primes = primes_below(105_000)[ids]
    places = spiral_position(ids)
    with_primes = [written_out(q, p, d_model, 1) for q, p in zip(places, primes.tolist(), strict=True)]
    without = [written_out(q, p, d_model, 0) for q, p in zip(places, primes.tolist(), strict=True)]
    np.testing.assert_allclose(lattice_embedding(ids, primes, d_model), with_primes, atol=1e-12)
    np.testing.assert_allclose(spiral_embedding(ids, d_model), without, atol=1e-12)


def test_embeddings_with_other_coordinates():
    ids, primes = np.arange(20), primes_below(72)
    places = lattice_coordinates(ids, primes)
    wanted = [written_out(q, p, 16, 1) for q, p in zip(places, primes.tolist(), strict=True)]
    np.testing.assert_allclose(lattice_embedding(ids, primes, 16, places), wanted, atol=1e-13)
    wanted = [written_out(q, 0, 16, 0) for q in places]
    np.testing.assert_allclose(spiral_embedding(ids, 16, places), wanted, atol=1e-13)
    assert not np.allclose(lattice_embedding(ids, primes, 16, places), lattice_embedding(ids, primes, 16))


def test_both_forms_of_the_original_by_the_height_of_their_places():
    ids = np.arange(50)
    primes = primes_below(230)
    x, y, _ = spiral_position(ids).T
    logarithms = {"id": np.log(ids + 1.0), "prime": np.log(primes + 1.0)}
    forms = {}
    for height, z in logarithms.items():
        places = np.stack([x, y, z], axis=-1)
        wanted = [written_out(q, p, 16, 1) for q, p in zip(places, primes.tolist(), strict=True)]
        forms[height] = lattice_embedding(ids, primes, 16, coordinates=places)
        np.testing.assert_allclose(forms[height], wanted, atol=1e-13)
    np.testing.assert_allclose(lattice_embedding(ids, primes, 16), forms["id"], atol=1e-13)
    stored = lattice_embedding(ids, primes, 16, coordinates=lattice_coordinates(ids, primes))
    np.testing.assert_allclose(stored, forms["prime"], atol=1e-13)
    # ln(0 + 1) = 0 against ln(2 + 1), and so on: no token has one height in both.
    assert (np.abs(forms["id"] - forms["prime"]).max(axis=1) > 0.01).all()


def test_a_perturbation_of_the_places_goes_into_the_embedding():
    ids, primes = np.arange(20), primes_below(72)
    places = lattice_coordinates(ids, primes)
    moved = places + np.random.default_rng(0).uniform(-0.01, 0.01, places.shape)
    wanted = [written_out(q, p, 16, 1) for q, p in zip(moved, primes.tolist(), strict=True)]
    found = lattice_embedding(ids, primes, 16, coordinates=moved)
    np.testing.assert_allclose(found, wanted, atol=1e-13)
    assert 0.0 < np.abs(found - lattice_embedding(ids, primes, 16, coordinates=places)).max() < 0.1


def test_rows_have_length_one():
    ids = np.arange(600).reshape(2, 300)
    found = lattice_embedding(ids, ids, 24)
    assert found.shape == (2, 300, 24)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-14)


def test_of_the_prime_only_two_patterns_remain():
    primes = primes_below(1_000)[2:]
    rows = lattice_embedding(np.full(primes.shape, 5), primes, 32)
    patterns = np.unique(rows.round(12), axis=0)
    assert len(patterns) == 2
    ends = np.isin(primes % 12, (1, 11))
    for pattern in (rows[ends], rows[~ends]):
        np.testing.assert_allclose(pattern - pattern[0], 0.0, atol=1e-14)


def walk(steps):
    """The square spiral on foot: sides of 1, 1, 2, 2, 3, 3, ... steps, a left turn after each."""
    x = y = 0
    dx, dy, side = 1, 0, 1
    places = [(0, 0)]
    while len(places) < steps:
        for _ in range(2):
            for _ in range(side):
                x, y = x + dx, y + dy
                places.append((x, y))
            dx, dy = -dy, dx
        side += 1
    return places[:steps]


def test_the_square_spiral_is_a_walk():
    places = walk(5_000)
    x, y = ulam_coordinates(np.arange(1, 5_001))
    assert x.dtype == y.dtype == np.int64
    assert list(zip(x.tolist(), y.tolist(), strict=True)) == places
    assert ulam_number(*np.array(places).T).tolist() == list(range(1, 5_001))


@given(st.integers(1, LARGEST_ON_SQUARE))
def test_from_number_to_place_and_back(n):
    assert ulam_number(*ulam_coordinates(n)) == n


@given(
    st.integers(-LARGEST_COORDINATE, LARGEST_COORDINATE), st.integers(-LARGEST_COORDINATE, LARGEST_COORDINATE)
)
def test_from_place_to_number_and_back(x, y):
    number = int(ulam_number(x, y))
    ring = max(abs(x), abs(y))
    assert max(0, 2 * ring - 1) ** 2 < number <= (2 * ring + 1) ** 2
    if number <= LARGEST_ON_SQUARE:
        assert ulam_coordinates(number) == (x, y)


@given(st.integers(2, 2**30 - 1) | st.integers(2**30 - 10**6, 2**30 - 1))
def test_a_ring_ends_with_an_odd_square_however_large(k):
    end = (2 * k + 1) ** 2
    x, y = ulam_coordinates([end - 1, end, end + 1])
    assert x.tolist() == [k - 1, k, k + 1] and y.tolist() == [-k, -k, -k]
    x, y = ulam_coordinates([4 * k**2, 4 * k**2 + 1, 4 * k**2 + 2])
    assert x.tolist() == [1 - k, -k, -k] and y.tolist() == [k, k, k - 1]


@given(st.integers(1, 2**31 - 2).map(lambda k: k * k) | st.integers(2, LARGEST_ON_SQUARE - 2))
def test_consecutive_numbers_are_one_step_apart(n):
    x, y = ulam_coordinates([n - 1, n, n + 1] if n > 1 else [n, n + 1])
    assert (np.abs(np.diff(x)) + np.abs(np.diff(y)) == 1).all()


def test_the_square_keeps_shapes():
    x, y = ulam_coordinates([[1, 2], [3, 4]])
    assert x.tolist() == [[0, 1], [1, 0]] and y.tolist() == [[0, 0], [1, 1]]
    grid = ulam_number(np.arange(-1, 2), np.arange(1, -2, -1)[:, None])
    assert grid.tolist() == [[5, 4, 3], [6, 1, 2], [7, 8, 9]]


@pytest.mark.parametrize(
    ("name", "least", "most", "function"),
    [
        ("n", 0, 2**53, spiral_angle),
        ("n", 0, 2**53, spiral_position),
        ("n", 1, 2**62, ulam_coordinates),
        ("ids", 0, 2**53, lambda n: lattice_coordinates(n, 2)),
        ("primes", 0, 2**53, lambda n: lattice_coordinates(2, n)),
        ("ids", 0, 2**53, lambda n: lattice_embedding(n, 2, 3)),
        ("primes", 0, 2**53, lambda n: lattice_embedding(2, n, 3)),
        ("ids", 0, 2**53, lambda n: spiral_embedding(n, 3)),
        ("x", -(2**30), 2**30, lambda n: ulam_number(n, 0)),
        ("y", -(2**30), 2**30, lambda n: ulam_number(0, n)),
    ],
)
def test_wrong_numbers_are_refused(name, least, most, function):
    function(least)
    function(most)
    with pytest.raises(TypeError, match=f"^{name} must hold integers, got dtype float64"):
        function(1.5)
    for wrong in (least - 1, -(2**62)):
        with pytest.raises(ValueError, match=f"^{name} must be at least {least}, got {wrong}"):
            function(wrong)
    for wrong in (most + 1, 2**63):
        with pytest.raises(ValueError, match=f"^{name} must be at most {most}, got {wrong}"):
            function(wrong)


def test_other_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"angle must be one of golden, golden-complement, .* got 'silver'"):
        spiral_angle(1, "silver")
    with pytest.raises(ValueError, match="angle must be one of"):
        lattice_coordinates(1, 2, "silver")
    with pytest.raises(ValueError, match=r"primes must have the shape of ids, \(2,\); got \(1,\)"):
        lattice_embedding([1, 2], [3], 4)
    with pytest.raises(ValueError, match=r"coordinates must have shape \(2, 3\), got \(2, 2\)"):
        spiral_embedding([1, 2], 4, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="coordinates must be finite"):
        spiral_embedding([1], 4, [[np.nan, 0, 0]])
    with pytest.raises(ValueError, match="d_model must be at least 1, got 0"):
        spiral_embedding([1], 0)
    with pytest.raises(TypeError, match="d_model must be an integer"):
        lattice_embedding([1], [2], 2.0)
    with pytest.raises(TypeError, match="coordinates must hold real numbers"):
        lattice_embedding([1], [2], 4, [[0, 0, 1j]])
    with pytest.raises(ValueError, match=r"x and y must have shapes that broadcast; got \(2,\), \(3,\)"):
        ulam_number([0, 1], [0, 1, 2])
