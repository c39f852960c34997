"""The reference parts against their formulas, on numbers small enough to follow."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax
from scipy.stats import norm as normal_distribution

from cllm_lab.model.parts import reference_parts as reference
from tests.model.parts.bench import TARGETS, TOKENS, B, Bench, C, D, H, T, V

# Every property below holds for both tables; the fast one is this one's twin.
TABLES = ("reference", "fast")
moderate = st.floats(-50.0, 50.0, allow_subnormal=False)


def rng(seed=0):
    return np.random.default_rng(seed)


@cache
def healthy(table, slot, dtype="float64"):
    """A bench for many examples, whose buffers each example writes again."""
    return Bench(slot, table, dtype)


# Embedding and positions.


@pytest.mark.parametrize("table", TABLES)
def test_embedding_looks_rows_up_and_gives_each_row_the_sum_of_its_gradients(table):
    bench = Bench("embedding", table)
    x = bench.forward(TOKENS)
    for b, t in np.ndindex(B, T):
        assert np.array_equal(x[b, t], bench.site.params["token_embedding"][TOKENS[b, t]])
    dx = rng().normal(size=(B, T, C))
    assert bench.backward(dx) is None
    expected = np.zeros((V, C))
    for b, t in np.ndindex(B, T):
        expected[TOKENS[b, t]] += dx[b, t]
    assert len(set(TOKENS.ravel())) < TOKENS.size, "some token stands twice"
    assert np.allclose(bench.grads()["token_embedding"], expected, rtol=1e-14)


@pytest.mark.parametrize("table", TABLES)
def test_learned_positions_beyond_the_window_get_no_gradient(table):
    bench = Bench("positions", table)
    P = bench.site.params["position_embedding"]
    x, dy = rng().normal(size=(2, B, 3, C))
    assert np.array_equal(bench.forward(x), x + P[:3])
    assert np.array_equal(bench.backward(dy), dy)
    grad = bench.grads()["position_embedding"]
    assert np.allclose(grad[:3], dy[0] + dy[1], rtol=1e-14)
    assert not grad[3:].any()


def test_sinusoids_by_hand():
    wave = reference.sinusoid(4, 6)
    assert wave.shape == (4, 6)
    assert np.array_equal(wave[0], [0, 1, 0, 1, 0, 1])
    assert wave[3, 0] == pytest.approx(math.sin(3.0))
    assert wave[3, 1] == pytest.approx(math.cos(3.0))
    assert wave[2, 2] == pytest.approx(math.sin(2.0 / 10000 ** (2 / 6)))
    assert wave[2, 5] == pytest.approx(math.cos(2.0 / 10000 ** (4 / 6)))


@given(n_positions=st.integers(1, 40), pairs=st.integers(1, 16))
def test_a_shift_of_positions_is_a_rotation_of_their_sinusoids(n_positions, pairs):
    """Why Vaswani et al. chose them: the wave at t + k is a linear function of the wave at t."""
    wave = reference.sinusoid(n_positions + 3, 2 * pairs).reshape(-1, pairs, 2)
    assert np.allclose((wave**2).sum(axis=-1), 1.0, rtol=1e-12)
    phases = wave[..., 1] + 1j * wave[..., 0]
    assert np.allclose(phases[3:], phases[:-3] * phases[3], rtol=1e-9)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", ["sinusoidal", "no-positions"])
def test_fixed_positions_pass_gradients_on(table, case):
    bench = Bench("positions", table, case=case)
    x, dy = rng().normal(size=(2, B, T, C))
    wave = reference.sinusoid(T, C) if case == "sinusoidal" else 0.0
    assert np.array_equal(bench.forward(x), x + wave)
    assert np.array_equal(bench.backward(dy), dy)
    assert not bench.grads().flat.any()


# Layer norm.


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=30)
@given(x=arrays.arrays(float, (3, 7), elements=moderate))
def test_layer_norm_gives_rows_of_mean_0_and_variance_1(table, x):
    bench = healthy(table, "norm")
    bench.site.params = {"gamma": np.ones(7), "beta": np.zeros(7)}
    y = bench.forward(x[None])[0]
    variance = x.var(axis=-1)
    assert np.allclose(y.mean(axis=-1), 0.0, atol=1e-9)
    # Epsilon takes its share: var / (var + epsilon), which is 1 but for rows of nearly equal numbers.
    assert np.allclose(
        y.var(axis=-1), variance / (variance + bench.case.config.norm_epsilon), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("table", TABLES)
def test_layer_norm_scales_and_shifts_by_its_parameters(table):
    bench = Bench("norm", table)
    x = rng().normal(3.0, 5.0, (B, T, C))
    y = bench.forward(x)
    gamma, beta = bench.site.params["gamma"], bench.site.params["beta"]
    n = (y - beta) / gamma
    assert np.allclose(n.mean(axis=-1), 0.0, atol=1e-13)
    assert np.allclose(n.var(axis=-1), 1.0, atol=1e-5)
    assert np.allclose(bench.site.saved["normalised"], n, atol=1e-12)
    assert bench.site.saved["rstd"].shape == (B, T, 1)
    assert np.allclose(bench.site.saved["rstd"][..., 0], 1.0 / np.sqrt(x.var(axis=-1) + 1e-5), rtol=1e-13)


@pytest.mark.parametrize("table", TABLES)
def test_layer_norm_passes_nothing_back_along_the_mean_and_the_input(table):
    """y does not change when x is shifted, nor (but for epsilon) when it is scaled, so dx is orthogonal to both."""
    bench = Bench("norm", table)
    x, dy = 1e4 * rng().normal(size=(2, B, T, C))
    bench.forward(x)
    dx = bench.backward(dy)
    assert np.abs(dx).max() > 0.1
    assert np.allclose(dx.sum(axis=-1), 0.0, atol=1e-13)
    # Epsilon's share of a variance of 1e8 is 1e-13.
    assert np.allclose((dx * (x - x.mean(axis=-1, keepdims=True))).sum(axis=-1), 0.0, atol=1e-6)


@pytest.mark.parametrize("table", TABLES)
def test_the_gradients_of_gamma_and_beta(table):
    bench = Bench("norm", table)
    x, dy = rng().normal(size=(2, B, T, C))
    bench.forward(x)
    bench.backward(dy)
    assert np.allclose(bench.grads()["layers.0.ln1.beta"], dy.sum(axis=(0, 1)), rtol=1e-13)
    expected = (dy * bench.site.saved["normalised"]).sum(axis=(0, 1))
    assert np.allclose(bench.grads()["layers.0.ln1.gamma"], expected, rtol=1e-12)


# Residual and dropout.


@pytest.mark.parametrize("table", TABLES)
def test_a_residual_hands_its_gradient_to_both_terms(table):
    bench = Bench("residual", table)
    x, branch, dy = rng().normal(size=(3, B, T, C))
    assert np.array_equal(bench.forward(x, branch), x + branch)
    dx, dbranch = bench.backward(dy)
    assert np.array_equal(dx, dy)
    assert np.array_equal(dbranch, dy)


@pytest.mark.parametrize("table", TABLES)
def test_dropout_multiplies_both_ways_by_one_mask(table):
    bench = Bench("dropout", table, case="dropout")
    x, dy = rng().normal(size=(2, 10, 10, C))
    y = bench.forward(x)
    mask = bench.site.saved["mask"]
    assert set(np.unique(mask)) == {0.0, 1.0 / 0.7}
    assert np.array_equal(y, x * mask)
    assert np.array_equal(bench.backward(dy), dy * mask)


@pytest.mark.parametrize("table", TABLES)
def test_dropout_outside_training_forgets_the_last_mask(table):
    bench = Bench("dropout", table, case="dropout")
    x = rng().normal(size=(B, T, C))
    bench.forward(x)
    bench.site.run.dropout_rng = None
    assert np.array_equal(bench.forward(x), x)
    assert np.array_equal(bench.backward(x), x)
    assert "mask" not in bench.site.saved


# Attention.


@pytest.mark.parametrize("table", TABLES)
def test_qkv_is_one_linear_map(table):
    bench = Bench("qkv", table)
    x, dqkv = rng().normal(size=(B, T, C)), rng(1).normal(size=(B, T, 3 * C))
    W, b = bench.site.params["w_qkv"], bench.site.params["b_qkv"]
    assert np.allclose(bench.forward(x), np.einsum("btc,ck->btk", x, W) + b, rtol=1e-12)
    assert np.allclose(bench.backward(dqkv), np.einsum("btk,ck->btc", dqkv, W), rtol=1e-12)
    assert np.allclose(bench.grads()["layers.0.w_qkv"], np.einsum("btc,btk->ck", x, dqkv), rtol=1e-12)
    assert np.allclose(bench.grads()["layers.0.b_qkv"], dqkv.sum(axis=(0, 1)), rtol=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_heads_take_neighbouring_columns_of_each_third(table):
    bench = Bench("heads", table)
    qkv = np.arange(B * T * 3 * C, dtype=float).reshape(B, T, 3 * C)
    thirds = bench.forward(qkv)
    for third, array in enumerate(thirds):
        assert array.shape == (B, H, T, D)
        for head in range(H):
            start = third * C + head * D
            assert np.array_equal(array[:, head], qkv[:, :, start : start + D])
    assert np.array_equal(bench.backward(thirds), qkv)


@pytest.mark.parametrize("table", TABLES)
def test_scores_are_scaled_products(table):
    bench = Bench("scores", table)
    q, k = rng().normal(size=(2, B, H, T, D))
    bench.site.saved.update(q=q, k=k)
    assert np.allclose(
        bench.forward((q, k)), np.einsum("bhid,bhjd->bhij", q, k) / 2.0, rtol=1e-12, atol=1e-14
    )
    dscores = rng(1).normal(size=(B, H, T, T))
    dq, dk = bench.backward(dscores)
    assert np.allclose(dq, np.einsum("bhij,bhjd->bhid", dscores, k) / 2.0, rtol=1e-12, atol=1e-14)
    assert np.allclose(dk, np.einsum("bhij,bhid->bhjd", dscores, q) / 2.0, rtol=1e-12, atol=1e-14)


def test_the_causal_mask():
    visible = reference.causal_mask(4, None)
    assert visible.dtype == bool
    assert visible.tolist() == [[j <= i for j in range(4)] for i in range(4)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", TABLES)
@given(data=st.data())
def test_softmax_rows_sum_to_1_and_hide_the_future(table, dtype, data):
    scale = data.draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4]))
    scores = (scale * rng(data.draw(st.integers(0, 99))).normal(size=(B, H, T, T))).astype(dtype)
    weights = healthy(table, "softmax", dtype).forward(scores)
    assert np.allclose(weights.sum(axis=-1), 1.0, rtol=8 * np.finfo(dtype).eps)
    assert (weights[..., ~np.tri(T, dtype=bool)] == 0.0).all()
    expected = softmax(np.where(np.tri(T, dtype=bool), scores.astype(float), -np.inf), axis=-1)
    # exp turns the rounding of a score s into s times that rounding of the weight.
    assert np.allclose(weights, expected, rtol=8 * np.finfo(dtype).eps * max(1.0, 2 * scale), atol=1e-30)


@pytest.mark.parametrize("table", TABLES)
def test_softmax_does_not_mind_what_the_future_holds(table):
    scores = rng().normal(size=(B, H, T, T))
    expected = Bench("softmax", table).forward(scores).copy()
    for unseen in (1e300, np.nan, np.inf):
        spoiled = np.where(np.tri(T, dtype=bool), scores, unseen)
        assert np.array_equal(Bench("softmax", table).forward(spoiled), expected)


@pytest.mark.parametrize("table", TABLES)
def test_softmax_gradient_rows_sum_to_0_and_vanish_behind_the_mask(table):
    bench = Bench("softmax", table)
    scores, dweights = rng().normal(size=(2, B, H, T, T))
    weights = bench.forward(scores).copy()
    dscores = bench.backward(dweights)
    # A constant added to a row of scores changes no weight.
    assert np.allclose(dscores.sum(axis=-1), 0.0, atol=1e-14)
    assert (dscores[..., ~np.tri(T, dtype=bool)] == 0.0).all()
    jacobian = np.einsum("bhij,jk->bhijk", weights, np.eye(T)) - np.einsum(
        "bhij,bhik->bhijk", weights, weights
    )
    assert np.allclose(dscores, np.einsum("bhijk,bhij->bhik", jacobian, dweights), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("table", TABLES)
def test_mixing_sums_the_values_by_their_weights_head_by_head(table):
    bench = Bench("mix", table)
    v, weights = rng().normal(size=(B, H, T, D)), rng(1).uniform(size=(B, H, T, T))
    bench.site.saved.update(v=v, weights=weights)
    expected = np.einsum("bhij,bhjd->bihd", weights, v).reshape(B, T, C)
    assert np.allclose(bench.forward((weights, v)), expected, rtol=1e-12, atol=1e-14)
    dmixed = rng(2).normal(size=(B, T, C))
    dweights, dv = bench.backward(dmixed)
    by_head = dmixed.reshape(B, T, H, D)
    assert np.allclose(dweights, np.einsum("bihd,bhjd->bhij", by_head, v), rtol=1e-12, atol=1e-14)
    assert np.allclose(dv, np.einsum("bhij,bihd->bhjd", weights, by_head), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("table", TABLES)
def test_the_output_projection_is_a_linear_map(table):
    bench = Bench("w_out", table)
    mixed, dy = rng().normal(size=(2, B, T, C))
    bench.site.saved["mixed"] = mixed
    W, b = bench.site.params["w_out"], bench.site.params["b_out"]
    assert np.allclose(bench.forward(mixed), mixed @ W + b, rtol=1e-12)
    assert np.allclose(bench.backward(dy), dy @ W.T, rtol=1e-12)
    assert np.allclose(bench.grads()["layers.0.w_out"], np.einsum("btc,btk->ck", mixed, dy), rtol=1e-12)
    assert np.allclose(bench.grads()["layers.0.b_out"], dy.sum(axis=(0, 1)), rtol=1e-12)


# Feed-forward.


@pytest.mark.parametrize("table", TABLES)
def test_gelu_is_the_input_times_its_share_of_the_normal_distribution(table):
    bench = Bench("activation", table, case="gelu")
    pre = np.linspace(-6.0, 6.0, 241)[None]
    bench.site.saved["pre"] = pre
    hidden = bench.forward(pre)
    # The approximation by tanh is within 5e-4 of h Phi(h).
    assert np.abs(hidden - pre * normal_distribution.cdf(pre)).max() < 5e-4
    u = np.sqrt(2 / np.pi) * (pre + 0.044715 * pre**3)
    assert np.allclose(hidden, pre * (1 + np.tanh(u)) / 2, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", ["default", "gelu"])
def test_the_slope_of_an_activation(table, case):
    bench = Bench("activation", table, case=case)
    pre = np.linspace(-4.0, 4.0, 33)[None]

    def value_at(h):
        bench.site.saved["pre"] = h
        return bench.forward(h).copy()

    slope = (value_at(pre + 1e-5) - value_at(pre - 1e-5)) / 2e-5
    value_at(pre)
    assert np.allclose(bench.backward(np.full_like(pre, 3.0)), 3.0 * slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("table", TABLES)
def test_feed_forward_is_two_linear_maps_with_tanh_between(table):
    bench = Bench("feed_forward", table)
    p = bench.site.params
    x, dy = rng().normal(size=(2, B, T, C))
    hidden = np.tanh(x @ p["w_ff1"] + p["b_ff1"])
    assert np.allclose(bench.forward(x), hidden @ p["w_ff2"] + p["b_ff2"], rtol=1e-12)
    dpre = (dy @ p["w_ff2"].T) * (1 - hidden**2)
    assert np.allclose(bench.backward(dy), dpre @ p["w_ff1"].T, rtol=1e-11)
    grads = bench.grads()
    assert np.allclose(grads["layers.0.w_ff2"], np.einsum("btf,btc->fc", hidden, dy), rtol=1e-11)
    assert np.allclose(grads["layers.0.w_ff1"], np.einsum("btc,btf->cf", x, dpre), rtol=1e-11)
    assert np.allclose(grads["layers.0.b_ff1"], dpre.sum(axis=(0, 1)), rtol=1e-11)
    assert np.allclose(grads["layers.0.b_ff2"], dy.sum(axis=(0, 1)), rtol=1e-11)


# Output and loss.


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("case", "weight"), [("default", "token_embedding"), ("untied", "output_embedding")])
def test_the_output_is_a_product_with_the_matrix_of_its_kind(table, case, weight):
    bench = Bench("output", table, case=case)
    W = bench.site.params[weight]
    x, dlogits = rng().normal(size=(B, T, C)), rng(1).normal(size=(B, T, V))
    assert np.allclose(bench.forward(x), np.einsum("btc,vc->btv", x, W), rtol=1e-12, atol=1e-14)
    assert np.allclose(bench.backward(dlogits), np.einsum("btv,vc->btc", dlogits, W), rtol=1e-12, atol=1e-14)
    grads = bench.grads()
    assert np.allclose(grads[weight], np.einsum("btv,btc->vc", dlogits, x), rtol=1e-12, atol=1e-14)
    assert [name for name in grads if grads[name].any()] == [weight]


def loss_of(table, logits):
    return healthy(table, "loss").forward(logits)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=30)
@given(logits=arrays.arrays(float, (B, T, V), elements=moderate))
def test_cross_entropy_is_minus_the_mean_log_probability_of_the_targets(table, logits):
    expected = -np.take_along_axis(log_softmax(logits, axis=-1), TARGETS[..., None], axis=-1).mean()
    assert loss_of(table, logits) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=30)
@given(logits=arrays.arrays(float, (B, T, V), elements=moderate), shift=st.floats(-1e4, 1e4))
def test_cross_entropy_does_not_mind_a_shift(table, logits, shift):
    # The shift rounds the logits themselves, by its own last bit.
    tolerance = 4 * np.spacing(abs(shift) + 50.0)
    assert loss_of(table, logits + shift) == pytest.approx(loss_of(table, logits), rel=1e-12, abs=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("huge", [1e4, -1e4, 1e30, -1e30])
def test_huge_logits_stay_finite(table, dtype, huge):
    logits = rng().normal(size=(B, T, V))
    logits[0, 0, TARGETS[0, 0]] = huge
    logits[1, 2, (TARGETS[1, 2] + 1) % V] = huge
    bench = Bench("loss", table, dtype)
    loss = bench.forward(logits.astype(dtype))
    dlogits, dfinal_hidden = bench.backward()
    assert dfinal_hidden is None
    assert math.isfinite(loss)
    assert loss == pytest.approx(abs(huge) / (B * T), rel=5e-3)
    assert np.isfinite(dlogits).all()


@pytest.mark.parametrize("table", TABLES)
def test_the_gradient_of_the_loss_is_what_was_expected_minus_what_came(table):
    bench = Bench("loss", table)
    logits = rng().normal(size=(B, T, V))
    bench.forward(logits)
    dlogits, _ = bench.backward()
    assert np.allclose(bench.site.saved["probabilities"], softmax(logits, axis=-1), rtol=1e-13)
    assert np.allclose(
        dlogits, (softmax(logits, axis=-1) - np.eye(V)[TARGETS]) / (B * T), rtol=1e-12, atol=1e-16
    )
    assert np.allclose(dlogits.sum(axis=-1), 0.0, atol=1e-16)


@given(losses=arrays.arrays(float, st.integers(1, 60), elements=st.floats(0, 30)))
def test_the_mean_of_losses(losses):
    assert reference.mean_of_losses(losses) == pytest.approx(
        math.fsum(losses) / len(losses), rel=1e-13, abs=1e-14
    )


@given(loss=st.floats(0, 1e3), count=st.integers(1, 500))
def test_the_mean_of_equal_losses_is_that_loss_to_the_last_bit(loss, count):
    assert reference.mean_of_losses(np.full(count, loss)) == loss


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_the_mean_of_losses_hides_no_bad_one(place, value):
    losses = np.ones(7)
    losses[place] = value
    assert str(reference.mean_of_losses(losses)) == str(value)
