"""Each fault of the attention shows the signature that the catalogue states, on both tables."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.faults import catalogue
from cllm_lab.model.parts import PartEdit
from cllm_lab.model.parts.wiring import attention_backward
from tests.faults.evidence import (
    CAUSAL,
    TABLES,
    T,
    batch,
    dependency,
    from_tensor,
    machine,
    tensor_names,
    wrong_gradients,
)

both_tables = pytest.mark.parametrize("table", TABLES)
ATTENTION = [f"layers.{i}.{name}" for i in range(2) for name in ("w_qkv", "b_qkv", "w_out", "b_out")]


def weights_of(model, layer=0):
    return model.forward(batch()[0])[f"layers.{layer}.attention.weights"]


def test_the_sound_machine_has_none_of_the_signatures():
    assert (dependency(machine()) == CAUSAL).all()
    assert wrong_gradients(machine()) == set()
    assert set(tensor_names()) == set(machine().params)


@both_tables
def test_doubled_attention_mixes_no_positions(table):
    model = machine("doubled-attention", table)
    assert (dependency(model) == np.eye(T, dtype=bool)).all()
    acts = model.forward(batch()[0])
    assert (acts["layers.1.attention"] == 2 * acts["layers.1.ln1"]).all()
    _, grads = model.gradients(*batch())
    assert all((grads[name] == 0).all() for name in ATTENTION)
    assert wrong_gradients(model) == set()


@both_tables
def test_attention_backward_missing_spoils_qkv_alone(table):
    model = machine("attention-backward-missing", table)
    _, grads = model.gradients(*batch())
    missing = {f"layers.{i}.{name}" for i in range(2) for name in ("w_qkv", "b_qkv")}
    assert {name for name in grads if not grads[name].any()} == missing
    assert wrong_gradients(model) == missing
    sound_loss, sound = machine(table=table).gradients(*batch())
    assert all((grads[name] == sound[name]).all() for name in set(sound) - missing)
    assert model.loss(*batch()) == sound_loss


@both_tables
def test_attention_backward_outer_is_one_product_three_times(table):
    model = machine("attention-backward-outer", table)
    _, grads = model.gradients(*batch())
    assert wrong_gradients(model) == {"layers.0.w_qkv", "layers.1.w_qkv"}
    seen = {}

    def recording(dy, site):
        seen[site.name] = site.saved["input"].reshape(-1, 8).T @ dy.reshape(-1, 8)
        return attention_backward(dy, site)

    machine(table=table).swapped(attention=PartEdit("recording", backward=recording)).gradients(*batch())
    for layer in range(2):
        for third in np.split(grads[f"layers.{layer}.w_qkv"], 3, axis=1):
            assert np.allclose(third, seen[f"layers.{layer}.attention"], rtol=1e-12, atol=0)


@both_tables
@pytest.mark.parametrize("spread, negative", [(0.9, False), (3.0, True)])
def test_signed_exp_softmax_gives_negative_weights_once_scores_spread_by_one(table, spread, negative):
    model = machine("signed-exp-softmax", table)
    scores = machine(table=table).forward(batch()[0])["layers.0.attention.scores"]
    widest = (np.where(CAUSAL, scores, -np.inf).max(-1) - np.where(CAUSAL, scores, np.inf).min(-1)).max()
    model.params["layers.0.w_qkv"][:, :8] *= spread / widest  # the queries, whose scores they scale
    model.params["layers.0.b_qkv"][:8] *= spread / widest
    weights = weights_of(model)
    assert bool((weights < 0).any()) is negative
    assert np.allclose(weights.sum(-1), 1.0, rtol=1e-9)
    assert (weights[..., ~CAUSAL] == 0).all()


@both_tables
def test_signed_exp_softmax_is_one_plus_x_and_its_gradient_is_wrong_from_qkv_on(table):
    model = machine("signed-exp-softmax", table)
    acts = model.forward(batch()[0])
    scores = acts["layers.0.attention.scores"]
    for i in range(T):
        row = scores[..., i, : i + 1]
        linear = 1.0 + row - row.max(axis=-1, keepdims=True)
        wanted = linear / linear.sum(axis=-1, keepdims=True)
        assert np.allclose(acts["layers.0.attention.weights"][..., i, : i + 1], wanted, rtol=1e-9)
    assert wrong_gradients(model) == from_tensor("layers.1.w_qkv")


@both_tables
@pytest.mark.parametrize("n_heads", [2, 4, 8])
def test_strided_heads_reach_the_first_positions_alone(table, n_heads):
    model = machine("strided-heads", table, n_heads=n_heads)
    i, j = np.indices((T, T))
    assert (dependency(model) == ((i == j) | (j <= np.ceil(i / n_heads)))).all()
    assert wrong_gradients(model) == set()


@both_tables
def test_strided_heads_read_where_the_stride_leads(table):
    acts = machine("strided-heads", table).forward(batch()[0])
    _, keys, values = np.split(acts["layers.0.attention.qkv"], 3, axis=-1)
    for head in range(4):
        for j in range(T):
            place = slice(2 * (head + j), 2 * (head + j) + 2)
            for name, third in (("k", keys), ("v", values)):
                read = acts[f"layers.0.attention.{name}"][:, head, j]
                assert (read == third.reshape(3, -1)[:, place]).all()


@both_tables
def test_strided_heads_are_sound_with_one_head(table):
    tokens, targets = batch()
    loss, grads = machine("strided-heads", table, n_heads=1).gradients(tokens, targets)
    sound_loss, sound = machine(table=table, n_heads=1).gradients(tokens, targets)
    assert loss == sound_loss
    assert np.allclose(grads.flat, sound.flat, rtol=1e-12, atol=1e-15)


@both_tables
def test_no_causal_mask_lets_everything_be_seen(table):
    model = machine("no-causal-mask", table)
    assert dependency(model).all()
    assert wrong_gradients(model) == set()


@both_tables
def test_missing_score_scale_is_a_factor_of_sqrt_d_head(table):
    model = machine("missing-score-scale", table)
    scores = model.forward(batch()[0])["layers.0.attention.scores"]
    sound = machine(table=table).forward(batch()[0])["layers.0.attention.scores"]
    assert np.allclose(scores, np.sqrt(model.config.d_head) * sound, rtol=1e-12)
    assert wrong_gradients(model) == set()


@both_tables
def test_softmax_wrong_axis_sums_down_the_columns_and_leaks(table):
    model = machine("softmax-wrong-axis", table)
    weights = weights_of(model)
    assert np.allclose(weights.sum(axis=-2), 1.0)
    assert abs(weights.sum(axis=-1) - 1.0).max() > 0.1
    assert (weights[..., ~CAUSAL] == 0).all()
    assert dependency(model).all()
    assert wrong_gradients(model) == set()


@both_tables
def test_mask_missing_in_backward_is_wrong_from_qkv_on(table):
    model = machine("mask-missing-in-backward", table)
    acts, sound = model.forward(batch()[0]), machine(table=table).forward(batch()[0])
    assert acts.names() == sound.names()
    assert all((acts[name] == sound[name]).all() for name in acts)
    assert wrong_gradients(model) == from_tensor("layers.1.w_qkv")
    assert wrong_gradients(model, length=1) == set()


@both_tables
def test_query_zero_looks_at_all_it_sees_alike(table):
    model = machine("query-zero", table)
    for layer in range(2):
        uniform = CAUSAL / CAUSAL.sum(axis=1, keepdims=True)
        assert np.allclose(weights_of(model, layer), uniform, rtol=1e-12)
    _, grads = model.gradients(*batch())
    for layer in range(2):
        assert (grads[f"layers.{layer}.w_qkv"][:, :16] == 0).all()
        assert grads[f"layers.{layer}.w_qkv"][:, 16:].any()
    assert wrong_gradients(model) == set()


@pytest.fixture(scope="module")
def sound_loss():
    return final_loss(catalogue()["doubled-attention"].healthy())


def final_loss(trainer):
    return trainer.run(epochs=4).epoch_loss[-1]


@pytest.mark.parametrize("name", ["doubled-attention", "signed-exp-softmax", "strided-heads"])
def test_faults_that_the_loss_of_the_scenario_shows(name, sound_loss):
    bigram = catalogue()[name].scenario.corpus().plateaus().bigram
    assert sound_loss < 0.7 * bigram
    assert final_loss(catalogue()[name].broken()) > 0.95 * bigram


def test_without_a_mask_the_loss_falls_below_what_the_language_allows():
    trainer = catalogue()["no-causal-mask"].broken()
    assert final_loss(trainer) < 0.5 * trainer.corpus.floor(trainer.config.sequence_length)


@both_tables
@pytest.mark.parametrize("name", ["attention-backward-outer", "strided-heads", "query-zero"])
def test_a_fault_of_queries_keys_and_values_needs_all_three(name, table):
    config = lab.ModelConfig(vocab_size=8, keys="shared")
    model = lab.Transformer(config, parts=getattr(lab.parts, table))
    trainer = lab.Trainer(model, lab.MarkovLanguage(n_symbols=8), faults=(name,))
    with pytest.raises(lab.ConfigError, match="needs keys='projected'; this machine has keys='shared'"):
        trainer.run(steps=1, progress=False)
