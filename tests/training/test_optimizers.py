import math

import numpy as np
import pytest

from cllm_lab.training import optimizer_kernels
from cllm_lab.training.config import OPTIMIZERS, TrainConfig
from cllm_lab.training.optimizers import UpdateSizes, optimizers

TABLES = ("reference", "fast")
DTYPES = ("float32", "float64")
# Not a multiple of the block in which the compiled updates sum their squares.
SIZE = 2500


def make_config(kind, **settings):
    if kind == "adamw":
        settings.setdefault("weight_decay", 0.1)
    return TrainConfig(optimizer=kind, **settings)


def fresh_moments(optimizer, like):
    return {name: np.zeros_like(like) for name in optimizer.moments}


def gradients(n_steps, dtype, seed=0):
    """Gradients of many magnitudes, exact zeros among them."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((n_steps, SIZE)) * 10.0 ** rng.uniform(-7, 1, SIZE)
    found[:, ::17] = 0.0
    return found.astype(dtype)


def run(table, kind, params, grads, rate=0.01, scale=0.7, **settings):
    """Parameters, moments and sizes after a step on each row of grads, the given params left alone."""
    optimizer, params = optimizers(table)[kind], params.copy()
    moments = fresh_moments(optimizer, params)
    config = make_config(kind, **settings)
    sizes = [
        optimizer.update(params, row, moments, rate, step, scale, config)
        for step, row in enumerate(grads, start=1)
    ]
    return params, moments, sizes


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_every_kind_under_its_name(table):
    found = optimizers(table)
    assert tuple(found) == OPTIMIZERS
    assert all(optimizer.name == name for name, optimizer in found.items())
    assert {name: optimizer.moments for name, optimizer in found.items()} == {
        "sgd": (),
        "momentum": ("velocity",),
        "adam": ("first", "second"),
        "adam-epsilon-hat": ("first", "second"),
        "adamw": ("first", "second"),
    }


def test_the_two_tables_hold_different_code():
    for kind in OPTIMIZERS:
        assert optimizers("reference")[kind].update is not optimizers("fast")[kind].update


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_numpy_and_compiled_agree_over_twenty_steps(kind, dtype):
    grads = gradients(20, dtype)
    params = np.random.default_rng(1).standard_normal(SIZE).astype(dtype)
    eps = np.finfo(dtype).eps
    (p, m, s), (q, n, t) = (run(table, kind, params, grads) for table in TABLES)
    assert p.dtype == q.dtype == dtype
    # Each of 20 steps may round a parameter (of up to 4) once more.
    np.testing.assert_allclose(p, q, rtol=0, atol=20 * 4 * eps)
    largest = np.abs(grads).max(axis=0)
    for name in m:
        # A sum of gradients may cancel, so that it is exact only beside the largest of them.
        bound = largest**2 if name == "second" else largest
        assert (np.abs(m[name] - n[name]) <= 100 * eps * bound).all()
    # Sums over 2500 squares; the two add up in different orders.
    np.testing.assert_allclose(np.array(s), np.array(t), rtol=200 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_update_itself_is_as_exact_as_its_dtype(kind, table, dtype):
    """From parameters of 0 the result is the update alone, which no larger number hides."""
    grads = gradients(3, dtype)
    found, _, _ = run(table, kind, np.zeros(SIZE, dtype), grads[:1])
    exact, _, _ = run("reference", kind, np.zeros(SIZE), grads[:1].astype(np.float64))
    np.testing.assert_allclose(found, exact, rtol=12 * np.finfo(dtype).eps)
    assert (found[::17] == 0.0).all()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_sizes_are_those_of_the_update_and_of_the_parameters_before(kind, table):
    grads = gradients(4, "float64")
    params = np.random.default_rng(2).standard_normal(SIZE)
    before, _, _ = run(table, kind, params, grads[:3])
    after, _, sizes = run(table, kind, params, grads)
    assert isinstance(sizes[3], UpdateSizes)
    change = after - before
    assert sizes[3].parameters == pytest.approx(before @ before, rel=1e-13)
    # The difference of parameters has lost the digits that rounding took from each.
    assert sizes[3].update == pytest.approx(change @ change, rel=1e-9)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_sizes_in_single_precision(kind, table):
    grads = gradients(1, "float32")
    zeros = np.zeros(SIZE, np.float32)
    after, _, [sizes] = run(table, kind, zeros, grads)
    change = after.astype(np.float64)
    assert sizes == (pytest.approx(change @ change, rel=1e-5), 0.0)
    params = np.random.default_rng(2).standard_normal(SIZE).astype(np.float32)
    wide = params.astype(np.float64)
    assert run(table, kind, params, grads)[2][0].parameters == pytest.approx(wide @ wide, rel=1e-5)


def by_hand(kind, p, gs, rate, wd=0.1, mu=0.9, b1=0.9, b2=0.999, eps=1e-8):
    """The papers' formulas on one number."""
    m = v = u = 0.0
    for t, g in enumerate(gs, start=1):
        if kind == "sgd":
            p = p - rate * g
        elif kind == "momentum":
            u = mu * u + g
            p = p - rate * u
        else:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
            if kind == "adam":
                p = p - rate * m_hat / (math.sqrt(v_hat) + eps)
            elif kind == "adam-epsilon-hat":
                rate_t = rate * math.sqrt(1 - b2**t) / (1 - b1**t)
                p = p - rate_t * m / (math.sqrt(v) + eps)
            else:
                p = p - rate * (m_hat / (math.sqrt(v_hat) + eps) + wd * p)
    return p


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_three_steps_by_hand(kind, table, n_steps):
    gs = [[0.5, -2e-6, 3.0], [-0.25, 1e-6, 3.0], [0.125, 5e-7, -40.0]][:n_steps]
    params = np.array([1.0, -0.5, 0.0])
    found, _, _ = run(table, kind, params, np.array(gs), rate=0.1, scale=1.0)
    expected = [
        by_hand(kind, p, column, 0.1) for p, column in zip(params, zip(*gs, strict=True), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_settings_are_those_of_the_configuration(kind, table):
    settings = {"momentum": 0.5, "betas": (0.6, 0.7), "epsilon": 1e-3}
    gs = np.array([[0.5], [-0.25], [0.125]])
    found, _, _ = run(table, kind, np.ones(1), gs, rate=0.1, scale=1.0, **settings)
    expected = by_hand(kind, 1.0, gs[:, 0], 0.1, mu=0.5, b1=0.6, b2=0.7, eps=1e-3)
    assert found[0] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_gradient_scale_is_as_if_the_gradients_had_been_scaled(kind, table):
    grads = gradients(3, "float64")
    params = np.ones(SIZE)
    scaled, moments, _ = run(table, kind, params, grads, scale=0.25)
    before, same_moments, _ = run(table, kind, params, 0.25 * grads, scale=1.0)
    np.testing.assert_allclose(scaled, before, rtol=1e-14)
    for name in moments:
        np.testing.assert_allclose(moments[name], same_moments[name], rtol=1e-13)


@pytest.mark.parametrize("table", TABLES)
def test_where_the_epsilons_differ(table):
    """First step, |g| = 1e-5: m_hat = g and v_hat = g^2, so only the place of epsilon is left."""
    g, eps = 1e-5, 1e-8
    moved = {
        kind: -run(table, kind, np.zeros(1), np.array([[g]]), rate=1.0, scale=1.0)[0][0]
        for kind in ("adam", "adam-epsilon-hat")
    }
    assert moved["adam"] == pytest.approx(g / (g + eps), rel=1e-13)
    assert moved["adam-epsilon-hat"] == pytest.approx(g / (g + eps / math.sqrt(1 - 0.999)), rel=1e-13)
    assert moved["adam"] - moved["adam-epsilon-hat"] == pytest.approx(0.029655, abs=1e-6)


@pytest.mark.parametrize("table", TABLES)
def test_the_epsilons_differ_less_as_the_bias_fades(table):
    gs = np.full((4000, 1), 1e-5)
    plain, hat = (run(table, kind, np.zeros(1), gs)[0][0] for kind in ("adam", "adam-epsilon-hat"))
    early_plain, early_hat = (run(table, k, np.zeros(1), gs[:10])[0][0] for k in ("adam", "adam-epsilon-hat"))
    assert abs(plain) > abs(hat)
    assert (plain - hat) / plain < 0.2 * (early_plain - early_hat) / early_plain


@pytest.mark.parametrize("table", TABLES)
def test_adamw_decays_apart_from_the_gradient(table):
    """Loshchilov and Hutter: decay is no part of the moments, and acts where the gradient is 0."""
    params = np.array([2.0, -3.0])
    found, moments, _ = run(table, "adamw", params, np.zeros((1, 2)), rate=0.5, weight_decay=0.1)
    np.testing.assert_allclose(found, params * (1 - 0.5 * 0.1), rtol=1e-15)
    assert not moments["first"].any()
    assert not moments["second"].any()
    grads = gradients(3, "float64")
    ones = np.ones(SIZE)
    assert (run(table, "adamw", ones, grads, weight_decay=0.0)[0] == run(table, "adam", ones, grads)[0]).all()
    decayed = run(table, "adamw", ones, grads)[1]
    plain = run(table, "adam", ones, grads)[1]
    assert all((decayed[name] == plain[name]).all() for name in plain)


@pytest.mark.parametrize("table", TABLES)
def test_momentum_on_a_constant_gradient_nears_ten_times_the_step(table):
    found, moments, _ = run(table, "momentum", np.zeros(1), np.ones((200, 1)), rate=1.0, scale=1.0)
    assert moments["velocity"][0] == pytest.approx((1 - 0.9**200) / 0.1, rel=1e-12)
    assert found[0] == pytest.approx(-sum((1 - 0.9**t) / 0.1 for t in range(1, 201)), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_its_own_entry_and_in_the_size(kind, table, dtype, bad):
    grads = gradients(1, dtype)
    grads[0, 1500] = bad
    with np.errstate(invalid="ignore"):
        found, _, sizes = run(table, kind, np.ones(SIZE, dtype), grads)
    assert np.flatnonzero(~np.isfinite(found)).tolist() == [1500]
    assert not math.isfinite(sizes[0].update)
    assert sizes[0].parameters == SIZE


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_nan_among_the_parameters_stays_a_nan(kind, table):
    params = np.ones(SIZE)
    params[7] = np.nan
    found, _, sizes = run(table, kind, params, gradients(1, "float64"))
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]
    assert math.isnan(sizes[0].parameters)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_work_is_done_in_place_and_the_gradient_is_left_alone(kind, table):
    optimizer = optimizers(table)[kind]
    whole = np.ones(SIZE + 20)
    moments = {name: np.zeros(SIZE + 20) for name in optimizer.moments}
    grads = gradients(1, "float64")[0]
    kept = grads.copy()
    inside = slice(10, SIZE + 10)
    views = {name: moment[inside] for name, moment in moments.items()}
    optimizer.update(whole[inside], grads, views, 0.1, 1, 1.0, make_config(kind))
    assert (grads == kept).all()
    for array, start in ((whole, 1.0), *((moment, 0.0) for moment in moments.values())):
        assert (array[:10] == start).all()
        assert (array[-10:] == start).all()
        assert (array[inside] != start).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_warm_up_names_each_kernel_and_compiles_it(dtype):
    lines = []
    optimizer_kernels.warm_up(lines.append, dtype)
    names = ("sum_of_squares", "sgd", "momentum", "adam")
    assert lines == [f"compiling {n}/4 {name} ({dtype})" for n, name in enumerate(names, start=1)]
    compiled = [
        (kernel, len(kernel.signatures))
        for kernel in (optimizer_kernels._sgd, optimizer_kernels._momentum, optimizer_kernels._adam)
    ]
    for kind in OPTIMIZERS:
        run("fast", kind, np.ones(SIZE, dtype), gradients(1, dtype))
    assert all(len(kernel.signatures) == count for kernel, count in compiled)
