"""What the lattice's parts do to attention, beyond the gradients and the oracle, which hold for all parts."""

from dataclasses import replace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab import lattice
from cllm_lab.model.activations import GradientSink
from cllm_lab.model.config import CHOICES, ConfigError, ModelConfig
from cllm_lab.model.parts.lattice_parts import lattice_positions
from cllm_lab.model.parts.reference_parts import sinusoid
from cllm_lab.model.transformer import Pass, Transformer
from tests.model.configurations import LATTICE, TABLES, by_name

BIASES = tuple(bias for bias in CHOICES["attention_bias"] if bias != "none")
ATTENTION = [name for name in LATTICE if "position" not in name and "embedding" not in name]


def with_other_parts(model, **settings):
    """A machine of other settings with the same values in all the tensors that it shares."""
    other = Transformer(replace(model.config, **settings), dtype=model.dtype, parts=model.table)
    for name in other.params:
        if name in model.params:
            other.params[name][...] = model.params[name]
    return other


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("bias", BIASES)
def test_at_strength_zero_a_bias_is_no_bias_to_the_last_bit(bias, table):
    plain = by_name("default").model(table)
    tokens, targets = by_name("default").tokens_and_targets()
    for learnable in (True, False):
        biased = with_other_parts(plain, attention_bias=bias, bias_strength=0.0, bias_learnable=learnable)
        assert biased.loss(tokens, targets) == plain.loss(tokens, targets)
        assert np.array_equal(biased.forward(tokens).logits, plain.forward(tokens).logits)


@pytest.mark.parametrize("bias", BIASES)
def test_each_head_has_a_strength_of_its_own(bias):
    plain = by_name("default").model()
    tokens, _ = by_name("default").tokens_and_targets()
    biased = with_other_parts(plain, attention_bias=bias)
    biased.params["layers.0.bias_strength"][:] = 0.0, 0.5
    before, after = (model.forward(tokens)["layers.0.attention.scores"] for model in (plain, biased))
    assert np.array_equal(before[:, 0], after[:, 0])
    feature = lattice.TokenLattice(11).pairs(bias, tokens)
    expected = before[:, 1] * (0.5 + 0.5 * feature) if bias == "resonance" else before[:, 1] + 0.5 * feature
    assert np.allclose(after[:, 1], expected, rtol=1e-13)


@pytest.mark.parametrize("bias", BIASES)
def test_a_fixed_strength_is_no_parameter(bias):
    config = ModelConfig(vocab_size=11, attention_bias=bias, bias_learnable=False, bias_strength=0.3)
    assert not any("strength" in name for name in Transformer(config).params)
    learned = Transformer(replace(config, bias_learnable=True))
    assert all((learned.params[f"layers.{i}.bias_strength"] == np.float32(0.3)).all() for i in range(2))
    assert learned.params["layers.0.bias_strength"].shape == (4,)
    assert (
        Transformer(replace(config, bias_learnable=True, init="zeros")).params["layers.0.bias_strength"].all()
    )
    assert (
        Transformer(ModelConfig(vocab_size=11, attention_bias=bias)).params["layers.1.bias_strength"] == 1
    ).all()


def test_a_learned_strength_is_trained():
    corpus = lab.MarkovLanguage(n_symbols=8)
    model = Transformer(ModelConfig(vocab_size=8, attention_bias="lattice-distance"))
    trainer = lab.Trainer(model, corpus)
    trainer.run(steps=5, progress=False)
    assert (trainer.params["layers.0.bias_strength"] != model.params["layers.0.bias_strength"]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_bias": "phase", "token_primes": "shuffled"},
        {"attention_bias": "lattice-distance", "token_places": "random"},
        {"keys": "rotated", "token_primes": "shuffled"},
        {"embedding_init": "spiral", "token_places": "shuffled"},
    ],
    ids=str,
)
def test_a_control_is_drawn_from_its_seed(settings):
    tokens, targets = by_name("default").tokens_and_targets()
    config = replace(by_name("default").config, **settings)
    losses = [Transformer(replace(config, lattice_seed=seed)).loss(tokens, targets) for seed in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("keys", ["shared", "turned", "historical", "rotated"])
def test_keys_from_queries_need_no_weights(keys):
    plain, other = (Transformer(ModelConfig(vocab_size=11, keys=each)) for each in ("projected", keys))
    assert other.params["layers.0.w_qkv"].shape == (64, 128)
    assert other.params["layers.0.b_qkv"].shape == (128,)
    assert plain.params.flat.size - other.params.flat.size == 2 * (64 * 64 + 64)


def keys_and_queries(**settings):
    case = by_name("default")
    model = Transformer(replace(case.config, **settings), dtype="float64", parts=TABLES["reference"])
    tokens, _ = case.tokens_and_targets()
    activations = model.forward(tokens)
    tokens_lattice = lattice.TokenLattice(11)
    primes, places = (of_all[tokens][:, None] for of_all in (tokens_lattice.primes, tokens_lattice.places))
    return activations["layers.0.attention.q"], activations["layers.0.attention.k"], primes, places


def test_keys_are_the_queries_turned():
    q, k, *_ = keys_and_queries(keys="shared")
    assert np.array_equal(k, q)
    q, k, primes, _ = keys_and_queries(keys="turned")
    assert np.array_equal(k, lattice.query_to_key_turn(q, primes))
    assert not np.allclose(np.linalg.norm(k, axis=-1), np.linalg.norm(q, axis=-1))
    q, k, primes, places = keys_and_queries(keys="historical")
    assert np.allclose(k, lattice.historical_key(q, primes, places), rtol=1e-14)
    q, k, primes, _ = keys_and_queries(keys="rotated")
    assert np.array_equal(k, lattice.query_to_key_rotation(q, primes))
    assert np.allclose(np.linalg.norm(k, axis=-1), np.linalg.norm(q, axis=-1))


@pytest.mark.parametrize("kind", ["cyclic", "historical"])
def test_scores_see_the_class_of_both_tokens(kind):
    """Tokens of one class attend as without symmetry; a rotation counts by the difference of the classes."""
    case = by_name("default")
    plain = case.model()
    moved = with_other_parts(plain, head_symmetry=kind)
    primes = lattice.token_primes_of(11)
    alike = np.flatnonzero(primes % 12 == 7)  # 7, 19, 31: turned, and by no other operation
    assert len(alike) >= 3
    tokens = np.array([alike[[0, 1, 2, 1, 0]]])
    scores = [model.forward(tokens)["layers.0.attention.scores"] for model in (plain, moved)]
    assert np.allclose(*scores, rtol=1e-12)
    other = np.array([[alike[0], np.flatnonzero(primes % 12 == 5)[0]]])
    scores = [model.forward(other)["layers.0.attention.scores"] for model in (plain, moved)]
    assert not np.allclose(scores[0][..., 1, 0], scores[1][..., 1, 0])


def test_historical_scaling_makes_the_token_of_prime_three_louder():
    """Prime 3 is the only one with p mod 12 = 3: its score with itself grows by 1.1 squared."""
    plain = by_name("default").model()
    moved = with_other_parts(plain, head_symmetry="historical")
    scores = [model.forward([[1]])["layers.0.attention.scores"] for model in (plain, moved)]
    assert np.allclose(scores[1], 1.1**2 * scores[0])


def test_lattice_positions_have_the_length_of_the_sinusoids():
    rows = lattice_positions(7, 16, np.dtype("float64"))
    assert np.allclose(np.linalg.norm(rows, axis=1), np.linalg.norm(sinusoid(7, 16), axis=1))
    assert np.linalg.matrix_rank(rows) == 7
    assert "position_embedding" not in Transformer(ModelConfig(vocab_size=5, positions="lattice")).params


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ATTENTION)
def test_another_batch_in_the_same_pass_is_seen_anew(name, table):
    model = by_name(name).model(table)
    tokens, targets = by_name(name).tokens_and_targets()
    kept = Pass(model, GradientSink(model.params.like()))
    for batch, wanted in ((tokens, targets), (targets, tokens)):
        batch, wanted = model.require_batch(batch, wanted)
        kept.forward(batch)
        loss = kept.loss(wanted)
        grads = kept.backward()
        fresh_loss, fresh = model.gradients(batch, wanted)
        assert loss == fresh_loss
        assert np.array_equal(grads.flat, fresh.flat)


@pytest.mark.parametrize("name", ATTENTION)
def test_training_goes_through_the_parts_and_is_repeatable(name):
    corpus = lab.MarkovLanguage(n_symbols=11)
    config = replace(by_name(name).config, context_length=8)

    def losses():
        trainer = lab.Trainer(Transformer(config), corpus, lab.TrainConfig(sequence_length=8))
        losses = trainer.run(steps=3, progress=False).losses
        assert {type(kept) for kept in trainer._passes.values()} == {Pass}
        return losses

    assert losses() == losses()


def test_a_checkpoint_keeps_the_lattice(tmp_path):
    settings = {
        "attention_bias": "resonance",
        "keys": "turned",
        "token_primes": "shuffled",
        "lattice_seed": 5,
    }
    trainer = lab.Trainer(Transformer(ModelConfig(vocab_size=8, **settings)), lab.MarkovLanguage(n_symbols=8))
    trainer.run(steps=2, progress=False)
    trainer.save(tmp_path / "run.safetensors")
    again = lab.Trainer.load(tmp_path / "run.safetensors")
    assert again.model.config == trainer.model.config
    for each in (trainer, again):
        each.run(steps=2, progress=False)
    assert np.array_equal(again.params.flat, trainer.params.flat)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"keys": "rotated", "d_model": 6, "n_heads": 2},
            "keys='rotated' turns .* must be even; got 6 / 2 = 3",
        ),
        ({"keys": "historical", "d_model": 4, "n_heads": 2}, "three dimensions; got .* = 4 / 2 = 2"),
        ({"head_symmetry": "cyclic", "d_model": 6, "n_heads": 2}, "head_symmetry='cyclic' turns"),
        ({"head_symmetry": "historical", "d_model": 6, "n_heads": 2}, "head_symmetry='historical' turns"),
        ({"bias_strength": 0.5}, "bias_strength=0.5 has no meaning for attention_bias='none'"),
        ({"bias_strength": float("nan"), "attention_bias": "phase"}, "bias_strength must be a finite number"),
        ({"bias_learnable": False}, "bias_learnable=False has no meaning for attention_bias='none'"),
        ({"bias_learnable": 1}, "bias_learnable must be True or False; got 1"),
        ({"attention": "none", "keys": "turned"}, "keys='turned' has no meaning for attention='none'"),
        ({"attention": "none", "head_symmetry": "cyclic"}, "head_symmetry='cyclic' has no meaning"),
        ({"attention": "none", "attention_bias": "phase"}, "attention_bias='phase' has no meaning"),
        ({"lattice_seed": -1}, "lattice_seed must be a whole number of at least 0; got -1"),
        ({"lattice_seed": 2**128}, "lattice_seed must be a non-negative integer below"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**{"vocab_size": 11, **settings})
