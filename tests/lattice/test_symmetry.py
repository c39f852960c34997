import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.lattice.primes import primes_below
from cllm_lab.lattice.symmetry import (
    HISTORICAL_SCALE,
    apply_symmetries,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    group_properties,
    historical_symmetries,
    operation_properties,
    symmetry_class,
)

TURNS, REFLECTED, SCALED = (1, 5, 7, 11), (2, 4, 8, 10), (3, 9)

even = st.sampled_from([2, 4, 8])
orders = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


def historical_by_words(g, x):
    """One operation on one vector, a pair at a time."""
    y = list(x)
    if g == 6:
        return [-y[0], -y[1], *y[2:]]
    angle = 2 * math.pi * g / 12
    for i in range(0, len(y) - 1, 2):
        a, b = y[i], y[i + 1]
        y[i] = math.cos(angle) * a - math.sin(angle) * b
        y[i + 1] = math.sin(angle) * a + math.cos(angle) * b
    if g in REFLECTED:
        y[0] = -y[0]
    if g in SCALED:
        y = [1.1 * value for value in y]
    return y


@pytest.mark.parametrize("d", [2, 3, 4, 7])
@pytest.mark.parametrize("g", range(12))
def test_the_historical_operations_by_words(g, d):
    x = np.random.default_rng(d).standard_normal(d)
    found = historical_symmetries(d)[g] @ x
    np.testing.assert_allclose(found, historical_by_words(g, x), atol=1e-15 * 10)


@pytest.mark.parametrize("d", [2, 3, 4, 9])
def test_what_each_historical_operation_is(d):
    found = [operation_properties(m) for m in historical_symmetries(d)]
    assert [g for g, p in enumerate(found) if not p.orthogonal] == list(SCALED)
    assert all(p.invertible for p in found)
    assert [g for g, p in enumerate(found) if p.orthogonal and p.determinant < 0] == list(REFLECTED)
    for g in SCALED:
        assert found[g].determinant == pytest.approx(HISTORICAL_SCALE**d)
    # In two dimensions a turn and a reflection make a reflection, of order 2; the other pairs keep the turn's order.
    turned = {2: 2, 4: 2, 8: 2, 10: 2} if d < 4 else {2: 6, 4: 6, 8: 6, 10: 6}
    expected = {0: 1, 1: 12, 5: 12, 7: 12, 11: 12, 3: None, 9: None, 6: 2, **turned}
    assert {g: p.order for g, p in enumerate(found)} == expected


@pytest.mark.parametrize("d", [2, 3, 4, 8])
def test_the_historical_set_is_no_group(d):
    m = historical_symmetries(d)
    found = group_properties(m)
    assert not found.is_group and found.identity == 0
    assert found.not_closed == (1, 1)
    assert not any(np.allclose(m[1] @ m[1], other) for other in m)
    assert set(SCALED) <= set(found.without_inverse)


def test_which_inverses_the_historical_set_holds():
    # In the plane the reflected ones undo themselves; with more pairs they do not, since those turn.
    assert group_properties(historical_symmetries(2)).without_inverse == (3, 9)
    assert group_properties(historical_symmetries(4)).without_inverse == (2, 3, 4, 8, 9, 10)


def test_the_turns_of_primes_are_orthogonal_and_no_group_either():
    classes = symmetry_class(primes_below(10_000))
    assert set(classes[2:].tolist()) == set(TURNS) and classes[:2].tolist() == [2, 3]
    m = historical_symmetries(4)[list(TURNS)]
    found = group_properties(m)
    assert all(operation_properties(a).orthogonal for a in m)
    assert found.identity is None and found.not_closed == (0, 0)
    # 1 and 11 undo each other, as do 5 and 7: what is missing is their product.
    np.testing.assert_allclose(m[0] @ m[3], np.eye(4), atol=1e-15)
    np.testing.assert_allclose(m[1] @ m[2], np.eye(4), atol=1e-15)


def test_inverses_alone_do_not_make_a_group():
    found = group_properties(cyclic_group(4)[[0, 1, 11]])
    assert found.identity == 0 and found.without_inverse == () and found.not_closed == (1, 1)
    assert not found.is_group


def test_half_a_turn_is_not_the_sixth_operation_beyond_two_dimensions():
    for d, same in ((2, True), (4, False)):
        assert np.allclose(historical_symmetries(d)[6], cyclic_group(d)[6]) == same


@given(even, orders)
def test_the_cyclic_group(d, order):
    m = cyclic_group(d, order)
    found = group_properties(m)
    assert found.is_group and found.identity == 0
    k = np.arange(order)
    np.testing.assert_array_equal(found.products, (k[:, None] + k) % order)
    for j in range(order):
        what = operation_properties(m[j])
        assert what.orthogonal and what.order == order // math.gcd(order, j)
        assert what.determinant == pytest.approx(1.0)


@given(even, orders)
def test_the_dihedral_group(d, order):
    m = dihedral_group(d, order)
    found = group_properties(m)
    assert m.shape == (2 * order, d, d) and found.is_group and found.identity == 0
    for i in range(2 * order):
        for j in range(2 * order):
            turn = (i + (-j if i >= order else j)) % order
            assert found.products[i, j] == turn + order * ((i >= order) != (j >= order))
    for j in range(order, 2 * order):
        assert operation_properties(m[j]).order == 2 and operation_properties(m[j]).orthogonal
        assert operation_properties(m[j]).determinant == pytest.approx((-1.0) ** (d // 2))


def test_composition_is_addition_of_angles_on_vectors():
    m, x = cyclic_group(4), np.random.default_rng(0).standard_normal(4)
    np.testing.assert_allclose(m[7] @ (m[9] @ x), m[4] @ x, atol=1e-15 * 10)


@given(seeds)
def test_operations_are_applied_to_each_vector_and_have_an_adjoint(seed):
    rng = np.random.default_rng(seed)
    m = historical_symmetries(5)
    x, y = rng.standard_normal((2, 3, 20, 5))
    g = rng.integers(0, 12, 20)
    moved = apply_symmetries(m, g, x)
    for i in range(20):
        np.testing.assert_allclose(moved[:, i], x[:, i] @ m[g[i]].T, atol=1e-14)
    back = apply_symmetries(m.swapaxes(1, 2), g, y)
    assert np.vdot(moved, y) == pytest.approx(np.vdot(x, back), abs=1e-11)


def complex_linear(z):
    """Multiplies each pair, taken as a complex number, by 2 - 3i, and mixes the pairs."""
    pairs = z[..., ::2] + 1j * z[..., 1::2]
    mixed = (2 - 3j) * (pairs + 0.5 * np.roll(pairs, 1, axis=-1))
    return np.stack([mixed.real, mixed.imag], axis=-1).reshape(z.shape)


def test_equivariance_is_found_where_it_is():
    x = np.random.default_rng(0).standard_normal((3, 6))
    assert equivariance_error(complex_linear, cyclic_group(6), x) < 1e-15
    # Multiplication by a number that is not real turns one way round, and a mirror shows it the other way.
    assert equivariance_error(complex_linear, dihedral_group(6), x) > 0.1
    scaled = equivariance_error(lambda z: z * np.linalg.norm(z, axis=-1, keepdims=True), dihedral_group(6), x)
    assert scaled < 1e-15
    # A scaling by 1.1 multiplies that function by 1.21, and a reflection of dimension 0 alone is orthogonal as well.
    historical = historical_symmetries(6)
    norm_times = {
        g: equivariance_error(lambda z: z * np.linalg.norm(z), historical[[g]], x) for g in range(12)
    }
    assert {g for g, error in norm_times.items() if error > 1e-12} == set(SCALED)
    assert norm_times[3] == pytest.approx((1.21 - 1.1) / 1.21)


@pytest.mark.parametrize("function", [lambda z: np.maximum(z, 0.0), lambda z: z + 1.0, np.tanh])
def test_and_missed_where_it_is_not(function):
    x = np.random.default_rng(1).standard_normal((3, 4))
    assert equivariance_error(function, cyclic_group(4), x) > 0.1


def test_invariance_is_equivariance_with_an_output_that_stays():
    x = np.random.default_rng(2).standard_normal((3, 4))
    stays = np.ones((12, 1, 1))
    length = equivariance_error(
        lambda z: np.linalg.norm(z, axis=-1, keepdims=True), cyclic_group(4), x, stays
    )
    first = equivariance_error(lambda z: z[..., :1], cyclic_group(4), x, stays)
    assert length < 1e-15 and first > 0.1


def test_a_function_that_is_zero_is_equivariant_and_x_stays_as_it_was():
    x = np.ones((2, 2))

    def overwrite(z):
        z[...] = 0.0
        return z

    assert equivariance_error(overwrite, cyclic_group(2), x) == 0.0
    np.testing.assert_array_equal(x, 1.0)


def test_properties_of_what_is_neither_orthogonal_nor_invertible():
    assert operation_properties([[1.0, 2.0], [2.0, 4.0]]) == operation_properties(
        np.array([[1.0, 2.0], [2.0, 4.0]])
    )
    found = operation_properties([[1.0, 2.0], [2.0, 4.0]])
    assert not found.invertible and not found.orthogonal and found.order is None
    # Large entries on the way are no sign that a matrix never comes back: cycles of three with weights of product 1.
    cycle = np.zeros((3, 3))
    cycle[[0, 1, 2], [1, 2, 0]] = 2.0**20, 2.0**20, 2.0**-40
    assert operation_properties(cycle).order == 3
    growing = operation_properties(1e10 * np.eye(2))
    assert growing.order is None and growing.invertible
    shear = operation_properties([[1.0, 1.0], [0.0, 1.0]])
    assert shear.invertible and shear.order is None and shear.determinant == 1.0


def test_bad_input_is_refused():
    m = cyclic_group(4)
    with pytest.raises(ValueError, match="d_model must be at least 2, got 1"):
        historical_symmetries(1)
    for group in (cyclic_group, dihedral_group):
        with pytest.raises(ValueError, match="d_model must be even, to be turned in pairs; got 3"):
            group(3)
        with pytest.raises(ValueError, match="order must be at least 1, got 0"):
            group(4, 0)
        with pytest.raises(TypeError, match="d_model must be an integer"):
            group(4.0)
    with pytest.raises(TypeError, match="primes must hold integers"):
        symmetry_class(2.5)
    with pytest.raises(ValueError, match="primes must be at least 1, got 0"):
        symmetry_class(0)
    with pytest.raises(ValueError, match="operations must be at most 11, got 12"):
        apply_symmetries(m, 12, np.ones(4))
    with pytest.raises(ValueError, match=r"operations must broadcast to \(2,\), got shape \(3,\)"):
        apply_symmetries(m, [0, 1, 2], np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"x must have shape \(..., 4\), got \(5,\)"):
        apply_symmetries(m, 0, np.ones(5))
    with pytest.raises(ValueError, match=r"a set of operations must have shape \(operations, d, d\)"):
        apply_symmetries(np.eye(4), 0, np.ones(4))
    with pytest.raises(ValueError, match="a set of operations must be finite"):
        group_properties([[[np.nan]]])
    with pytest.raises(ValueError, match="matrices must all differ; operations 0 and 2 are equal"):
        group_properties(m[[0, 1, 0]])
    with pytest.raises(ValueError, match="matrix must be square"):
        operation_properties(np.ones((2, 3)))
    with pytest.raises(ValueError, match="matrix must be finite"):
        operation_properties([[np.inf]])
    with pytest.raises(ValueError, match="x must be finite"):
        equivariance_error(np.tanh, m, [np.nan] * 4)
    with pytest.raises(ValueError, match="output_group must have as many operations as group, 12; got 1"):
        equivariance_error(np.tanh, m, np.ones(4), np.eye(4)[None])
    with pytest.raises(ValueError, match=r"function must return shape \(..., 4\)"):
        equivariance_error(lambda z: z[..., :2], m, np.ones(4))
    with pytest.raises(ValueError, match="what function returns must be finite"):
        equivariance_error(lambda z: z * np.nan, m, np.ones(4))


def test_a_matrix_too_large_to_be_squared_is_not_orthogonal():
    found = operation_properties(np.diag([1e200, 1.0]))
    assert (found.orthogonal, found.order) == (False, None)
