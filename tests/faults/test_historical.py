"""The original's states in this engine: its block proven by finite differences, its losses beside ours."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cllm_lab.faults import catalogue, historical, historical_states
from cllm_lab.faults.historical import FULL, SMALL, HistoricalSize, block_diagonal
from cllm_lab.model.config import ConfigError
from cllm_lab.model.gradient_check import gradient_check
from tests.training.machines import TABLES

both_tables = pytest.mark.parametrize("table", TABLES)
TINY = HistoricalSize(vocab_size=611, d_model=16, n_layers=2, n_heads=4, d_ff=12, sequence_length=8)
LN_V = math.log(10_000)
ZERO = [name for name in historical_states() if name.endswith("zero-weights")]


def machine(state, table="reference", sound=True, **choices):
    return historical(state).trainer(
        TINY, dtype="float64", parts=TABLES[table], sound_backward=sound, **choices
    )


def batch():
    ids = np.random.default_rng(4).integers(0, 611, (2, 2, 8))
    return ids[0], ids[1]


def test_an_unknown_state_is_answered_with_all_of_them():
    with pytest.raises(ValueError) as caught:
        historical("attention")
    assert "'attention'" in str(caught.value)
    assert all(name in str(caught.value) for name in historical_states())
    with pytest.raises(TypeError):
        historical_states()["new"] = None


def test_the_states_are_not_of_the_catalogue_and_say_what_was_printed():
    for name, state in historical_states().items():
        assert name == state.name == state.fault().id and name not in catalogue()
        assert state.title and state.original_losses
        assert f"{state.original_losses[0]:.6g}" in state.fault().symptom


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="size must be 'small', 'full' or a HistoricalSize; got 'large'"):
        historical("attention-fix").trainer("large")
    with pytest.raises(ConfigError, match="n_heads=8 does not divide d_model=12"):
        historical("attention-fix").trainer(HistoricalSize(d_model=12))
    assert historical("doubled-input").trainer().model.config.d_model == SMALL.d_model
    assert (FULL.vocab_size, FULL.d_model, FULL.n_layers, FULL.n_heads, FULL.d_ff) == (
        10_000,
        512,
        6,
        8,
        2048,
    )


# The machine.


@both_tables
def test_the_block_is_norm_of_attention_plus_feed_forward(table):
    subject = machine("real-initialisation", table)
    acts, p = subject.forward(batch()[0]), subject.params
    a = acts["layers.0.attention"]
    summed = a + np.tanh(a @ p["layers.0.w_ff1"]) @ p["layers.0.w_ff2"]
    centred = summed - summed.mean(-1, keepdims=True)
    y = centred / np.sqrt(summed.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(acts["layers.0"], y, rtol=1e-9, atol=1e-9)
    assert not [name for name in acts.names() if "ln1" in name or "residual1" in name]
    np.testing.assert_allclose(acts.logits, acts["layers.1"] @ p["token_embedding"].T, atol=1e-9)


@both_tables
def test_the_attention_is_that_of_the_original_position_by_position(table):
    subject = machine("real-initialisation", table)
    acts = subject.forward(batch()[0])
    x, W = acts["embedding"], subject.params["layers.0.w_qkv"]
    B, T, C = x.shape
    H, D = 4, 4
    expected = np.zeros_like(x)
    for b in range(B):
        rows = np.zeros((3, T, C))
        for third in range(3):
            for h in range(H):
                own = slice(h * D, (h + 1) * D)
                at = slice(third * C + h * D, third * C + (h + 1) * D)
                rows[third][:, own] = x[b][:, own] @ W[own, at]
        q, k, v = rows[0], rows[1].ravel(), rows[2].ravel()
        for h in range(H):
            for i in range(T):
                starts = [(h + j) * D for j in range(T)]
                s = np.array([q[i, h * D : (h + 1) * D] @ k[n : n + D] for n in starts]) / math.sqrt(D)
                e = 1.0 + s - s.max()
                mixed = sum(w * v[n : n + D] for w, n in zip(e / e.sum(), starts, strict=True))
                expected[b, i, h * D : (h + 1) * D] = mixed
    np.testing.assert_allclose(acts["layers.0.attention"], expected, rtol=1e-9, atol=1e-12)


def test_block_diagonal_projections_use_one_weight_in_eight():
    mask = block_diagonal(512, 8, "float32")
    assert mask.shape == (512, 1536)
    assert [int(third.sum()) for third in np.split(mask, 3, axis=1)] == [32_768] * 3


@both_tables
@pytest.mark.parametrize("state", ["attention-fix", "real-initialisation", "doubled-input"])
def test_with_a_sound_backward_every_gradient_is_that_of_the_loss(state, table):
    subject = machine(state, table)
    errors = gradient_check(subject.model, *batch(), seed=1)
    assert max(errors.values()) < 1e-6, max(errors, key=errors.get)
    _, grads = subject.gradients(*batch())
    unused = {
        name for name in grads if any(part in name for part in ("ln1", "w_out", "b_out", "b_qkv", "position"))
    }
    assert unused and all(not grads[name].any() for name in unused)


@both_tables
def test_the_attention_fix_gave_its_attention_no_gradient(table):
    broken, sound = (machine("real-initialisation", table, sound) for sound in (False, True))
    (loss, grads), (sound_loss, sound_grads) = (each.gradients(*batch()) for each in (broken, sound))
    assert loss == sound_loss
    for layer in range(2):
        assert not grads[f"layers.{layer}.w_qkv"].any()
        assert sound_grads[f"layers.{layer}.w_qkv"].any()
    np.testing.assert_array_equal(grads["layers.1.w_ff1"], sound_grads["layers.1.w_ff1"])
    assert cosine(grads["layers.0.w_ff1"], sound_grads["layers.0.w_ff1"]) < 0.9
    assert cosine(grads["token_embedding"], sound_grads["token_embedding"]) < 0.99


@both_tables
def test_the_attention_backward_gave_one_outer_product_to_all_three(table):
    broken, sound = (machine("attention-backward", table, sound) for sound in (False, True))
    (_, grads), (_, sound_grads) = (each.gradients(*batch()) for each in (broken, sound))
    q, k, v = np.split(grads["layers.1.w_qkv"], 3, axis=1)
    assert q.any() and (q == k).all() and (k == v).all()
    assert not (q[~block_diagonal(16, 4, bool)[:, :16]]).any()
    assert abs(cosine(grads["layers.1.w_qkv"], sound_grads["layers.1.w_qkv"])) < 0.9


def cosine(a, b) -> float:
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


# The losses, beside the original's.


@pytest.mark.parametrize("state", ZERO)
def test_zero_weights_stay_at_the_constant_of_the_documents(state):
    size = HistoricalSize(d_model=16, d_ff=16, n_layers=1)
    subject = historical(state).trainer(size)
    losses = subject.run(epochs=2).epoch_loss
    assert losses == pytest.approx([LN_V] * 2, abs=1e-13)
    assert losses[0] == pytest.approx(historical(state).original_losses[0], abs=2e-5)
    assert not subject.params.flat.any()
    assert subject.steps_per_epoch == 9
    assert "nitialisation" in subject.announcement


def test_mse_gradients_without_a_layer_norm_stay_at_ln_v_to_four_decimals():
    state = historical("mse-gradients")
    losses = state.trainer(HistoricalSize(d_model=32, d_ff=32)).run(epochs=3).epoch_loss
    assert losses == pytest.approx([LN_V] * 3, abs=1e-4) and len(set(losses)) == 3
    assert state.original_losses == pytest.approx([LN_V] * 5, abs=1e-4)


def test_the_doubled_input_starts_above_ln_v_and_falls():
    state = historical("doubled-input")
    ours = state.trainer(HistoricalSize(d_model=64, d_ff=16)).run(epochs=3).epoch_loss
    assert ours[0] > ours[1] > ours[2] > LN_V + 4.0
    assert ours == pytest.approx(state.original_losses[:3], abs=0.3)


def test_the_loss_from_ids_is_constant_while_the_weights_move():
    subject = historical("loss-from-ids").trainer(TINY)
    before = subject.params.flat.copy()
    losses = subject.run(epochs=3).epoch_loss
    assert len(set(losses)) == 1 and losses[0] != pytest.approx(math.log(611), abs=0.5)
    assert (subject.params.flat != before).any()


def test_the_sorted_stream_shows_the_machine_monotone_windows():
    subject = historical("sorted-stream").trainer(TINY)
    for inputs, targets in subject._epoch_batches(0):
        assert (inputs <= targets).all()
    losses = subject.run(epochs=2).epoch_loss
    assert np.isfinite(losses).all()
    assert losses != historical("real-initialisation").trainer(TINY).run(epochs=2).epoch_loss


def test_the_same_seed_gives_the_same_bits():
    one, two, other = (historical("attention-fix").trainer(TINY, seed=seed) for seed in (3, 3, 4))
    for each in (one, two, other):
        each.run(steps=2)
    assert one.params.flat.tobytes() == two.params.flat.tobytes() != other.params.flat.tobytes()
