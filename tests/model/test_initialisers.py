import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab import lattice
from cllm_lab.model.config import CHOICES, ModelConfig
from cllm_lab.model.initialisers import INITIALISERS
from cllm_lab.model.transformer import Transformer
from tests.model.configurations import TABLES

SMALL = {"vocab_size": 7, "context_length": 4, "d_model": 6, "n_heads": 2, "n_layers": 2, "d_ff": 10}


def made(seed=0, dtype="float64", **settings):
    return Transformer(
        ModelConfig(**{**SMALL, **settings}), seed=seed, dtype=dtype, parts=TABLES["reference"]
    )


def batch(vocab_size, shape=(2, 4), seed=3):
    return np.random.default_rng(seed).integers(0, vocab_size, (2, *shape))


def test_there_is_an_initialiser_for_every_choice():
    assert tuple(INITIALISERS) == CHOICES["init"]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**64), init=st.sampled_from(CHOICES["init"]))
def test_the_same_seed_gives_the_same_bits(seed, init):
    assert np.array_equal(made(seed, init=init).params.flat, made(seed, init=init).params.flat)


@pytest.mark.parametrize("init", ["xavier", "he", "normal"])
def test_another_seed_gives_other_weights(init):
    first, second = made(0, init=init).params, made(1, init=init).params
    for spec in first.specs:
        assert (spec.role in ("bias", "gain")) == np.array_equal(first[spec.name], second[spec.name])


@pytest.mark.parametrize("init", ["xavier", "he", "normal"])
def test_no_two_tensors_share_their_draws(init):
    params = made(init=init, n_layers=3, d_ff=6, tied=False).params
    drawn = [params[spec.name].ravel() for spec in params.specs if spec.role not in ("bias", "gain")]
    assert len({array[:24].tobytes() for array in drawn}) == len(drawn)


@pytest.mark.parametrize("init", ["xavier", "he"])
@pytest.mark.parametrize(
    "settings",
    [
        {"tied": False},
        {"positions": "none"},
        {"positions": "sinusoidal"},
        {"norm": "post"},
        {"attention": "none"},
        {"activation": "gelu"},
        {"n_layers": 3},
        {"n_heads": 3},
        {"dropout": 0.5},
        {"norm_epsilon": 0.1},
    ],
    ids=str,
)
def test_a_tensor_is_the_same_whatever_stands_beside_it(init, settings):
    plain, other = made(init=init).params, made(init=init, **settings).params
    shared = set(plain) & set(other)
    assert {"token_embedding", "layers.1.w_ff1", "layers.0.w_ff2"} <= shared
    for name in shared:
        assert np.array_equal(plain[name], other[name]), name


def test_a_longer_context_moves_only_the_positions():
    plain, other = made().params, made(context_length=9).params
    changed = [name for name in plain if not np.array_equal(plain[name], other[name])]
    assert changed == ["position_embedding"]


@pytest.mark.parametrize("init", CHOICES["init"])
def test_float32_weights_are_the_rounded_float64_weights(init):
    wide, narrow = made(init=init).params, made(init=init, dtype="float32").params
    assert narrow.flat.dtype == np.float32
    assert np.array_equal(narrow.flat, wide.flat.astype(np.float32))


@pytest.mark.parametrize("init", CHOICES["init"])
def test_biases_start_at_zero_and_gains_at_one_unless_all_is_zero(init):
    params = made(init=init, tied=False).params
    for spec in params.specs:
        if spec.role == "bias":
            assert not params[spec.name].any()
        elif spec.role == "gain":
            assert (params[spec.name] == (0.0 if init == "zeros" else 1.0)).all()


# V, C and F differ, so that a fan taken from the wrong side shows.
WIDE = {"vocab_size": 300, "context_length": 90, "d_model": 60, "n_heads": 2, "n_layers": 2, "d_ff": 200}


# The standard deviations by hand. In xavier the embeddings take the smaller of sqrt(2 / (rows + C)) and
# 0.15 / sqrt(C) = 0.01936; "normal" divides by sqrt(2 n_layers) = 2 where a matrix ends a sub-layer.
DEVIATIONS = {
    "xavier": {
        "token_embedding": 0.15 / math.sqrt(60),
        "position_embedding": 0.15 / math.sqrt(60),
        "output_embedding": 0.15 / math.sqrt(60),
        "layers.0.w_qkv": math.sqrt(2 / 120),
        "layers.1.w_out": math.sqrt(2 / 120),
        "layers.0.w_ff1": math.sqrt(2 / 260),
        "layers.1.w_ff2": math.sqrt(2 / 260),
    },
    "he": {
        "token_embedding": math.sqrt(2 / 60),
        "position_embedding": math.sqrt(2 / 60),
        "output_embedding": math.sqrt(2 / 60),
        "layers.0.w_qkv": math.sqrt(2 / 60),
        "layers.1.w_out": math.sqrt(2 / 60),
        "layers.0.w_ff1": math.sqrt(2 / 60),
        "layers.1.w_ff2": math.sqrt(2 / 200),
    },
    "normal": {
        "token_embedding": 0.02,
        "position_embedding": 0.02,
        "output_embedding": 0.02,
        "layers.0.w_qkv": 0.02,
        "layers.1.w_out": 0.01,
        "layers.0.w_ff1": 0.02,
        "layers.1.w_ff2": 0.01,
    },
}


@pytest.mark.parametrize(
    ("init", "name"), [(init, name) for init, names in DEVIATIONS.items() for name in names]
)
def test_the_spread_of_every_matrix(init, name):
    drawn = Transformer(ModelConfig(**WIDE, init=init, tied=False), dtype="float64").params[name]
    expected = DEVIATIONS[init][name]
    # The mean of n draws strays by sigma / sqrt(n); their deviation by sigma / sqrt(2 n) or less. Five of those.
    strays = 5.0 / math.sqrt(drawn.size)
    assert abs(drawn.mean()) < strays * expected
    assert abs(drawn.std() / expected - 1.0) < strays
    bound = math.sqrt(3.0) * expected
    if init == "xavier":
        assert np.abs(drawn).max() <= bound
        assert np.abs(drawn).max() > 0.99 * bound
    else:
        assert np.abs(drawn).max() > 1.5 * bound


def test_a_table_with_more_rows_than_numbers_of_weights_takes_xavier_itself():
    # sqrt(2 / (rows + C)) is the smaller of the two above rows = 88 C.
    config = ModelConfig(vocab_size=1000, d_model=4, n_heads=2)
    drawn = Transformer(config, dtype="float64").params["token_embedding"]
    assert drawn.std() == pytest.approx(math.sqrt(2 / 1004), rel=5 / math.sqrt(drawn.size))


def test_the_value_of_normal_and_constant():
    assert (made(init="constant", init_value=-0.4).params["layers.0.w_out"] == -0.4).all()
    assert (made(init="constant").params["layers.0.w_out"] == 0.01).all()
    narrow, wide = made(init="normal").params, made(init="normal", init_value=0.2).params
    for spec in narrow.specs:
        if spec.role not in ("bias", "gain"):
            assert np.allclose(wide[spec.name], 10.0 * narrow[spec.name], rtol=1e-14, atol=0)


SIZES = [(100, 32), (100, 512), (611, 32), (611, 128), (611, 512), (2_000, 64), (10_000, 32), (10_000, 512)]
CHOICE_SETTINGS = [{}, {"norm": "post"}, {"tied": False}, {"activation": "gelu"}, {"positions": "sinusoidal"}]


def first_loss_over_ln_v(vocab_size, d_model, **settings):
    config = ModelConfig(**{"n_heads": 8, "n_layers": 2, **settings}, vocab_size=vocab_size, d_model=d_model)
    tokens, targets = batch(vocab_size, (4, 32))
    return Transformer(config, dtype="float32").loss(tokens, targets) / math.log(vocab_size)


@pytest.mark.parametrize(("vocab_size", "d_model"), SIZES)
def test_the_default_machine_starts_within_one_percent_of_ln_v(vocab_size, d_model):
    assert abs(first_loss_over_ln_v(vocab_size, d_model) - 1.0) < 0.01


@pytest.mark.parametrize("settings", [*CHOICE_SETTINGS, {"attention": "none"}, {"n_layers": 1}], ids=str)
@pytest.mark.parametrize(("vocab_size", "d_model"), [(100, 64), (611, 128)])
def test_so_does_every_other_choice(vocab_size, d_model, settings):
    assert abs(first_loss_over_ln_v(vocab_size, d_model, **settings) - 1.0) < 0.01


@settings(max_examples=25)
@given(vocab_size=st.integers(100, 1500), d_model=st.sampled_from([32, 48, 64, 96]), seed=st.integers(0, 99))
def test_at_any_size_and_seed(vocab_size, d_model, seed):
    model = Transformer(ModelConfig(vocab_size=vocab_size, d_model=d_model, n_layers=1), seed=seed)
    tokens, _ = batch(vocab_size, (2, 16))
    logits = model.forward(tokens).logits.astype(float)
    # The mean over all words as targets: no batch's own choice of targets adds to it or takes from it.
    expected_loss = (np.log(np.exp(logits).sum(axis=-1)) - logits.mean(axis=-1)).mean()
    assert abs(expected_loss / math.log(vocab_size) - 1.0) < 0.01


def test_he_starts_far_above_ln_v():
    # The excess is about sigma^2 C / 2 = 1 nat, more than ten times what one percent of ln V allows.
    excess = (first_loss_over_ln_v(10_000, 512, init="he") - 1.0) * math.log(10_000)
    assert 0.8 < excess < 1.2


def bits_of_a_log(vocab_size):
    """Two libraries' logarithms differ in the last bit at most."""
    return np.spacing(math.log(vocab_size))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vocab_size", [2, 3, 7, 611, 10_000])
def test_zeros_give_exactly_ln_v_and_no_gradient_at_all(table, dtype, vocab_size):
    model = Transformer(
        ModelConfig(**{**SMALL, "vocab_size": vocab_size}, init="zeros"), 0, dtype, TABLES[table]
    )
    losses = set()
    for shape in ((1, 1), (1, 3), (2, 4), (7, 3), (5, 2)):
        loss, grads = model.gradients(*batch(vocab_size, shape))
        losses.add(loss)
        assert not grads.flat.any()
    assert len(losses) == 1, "the mean of equal losses depends on their number"
    assert abs(losses.pop() - math.log(vocab_size)) <= bits_of_a_log(vocab_size)


@pytest.mark.parametrize("settings", [*CHOICE_SETTINGS, {"attention": "none"}], ids=str)
@pytest.mark.parametrize("table", TABLES)
def test_zeros_are_a_dead_end_for_every_choice(table, settings):
    model = Transformer(ModelConfig(**SMALL, **settings, init="zeros"), 0, "float64", TABLES[table])
    loss, grads = model.gradients(*batch(7))
    assert abs(loss - math.log(7)) <= bits_of_a_log(7)
    assert not grads.flat.any()


@pytest.mark.parametrize("table", TABLES)
def test_a_constant_keeps_all_units_of_a_layer_alike(table):
    model = Transformer(ModelConfig(**SMALL, init="constant", init_value=0.3), 0, "float64", TABLES[table])
    # Equal units are copies wherever the machine stands otherwise: alike, not dead.
    rng = np.random.default_rng(0)
    for spec in model.params.specs:
        if spec.role in ("gain", "embedding"):
            model.params[spec.name][...] = rng.normal(size=spec.shape)
    _, grads = model.gradients(*batch(7))
    for layer in ("layers.0.", "layers.1."):
        by_unit = grads[layer + "w_ff2"]
        assert np.abs(by_unit).max() > 1e-6
        assert np.allclose(by_unit, by_unit[0], rtol=1e-12, atol=0)
        by_unit = grads[layer + "w_ff1"].T
        assert np.allclose(by_unit, by_unit[0], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("init", CHOICES["init"])
@pytest.mark.parametrize("seed", [-1, 1.5, "zero", None])
def test_a_seed_that_is_none_is_refused(init, seed):
    with pytest.raises((TypeError, ValueError), match=r"seed must be a non-negative integer"):
        made(seed, init=init)


@pytest.mark.parametrize("embedding_init", ["lattice", "spiral"])
@pytest.mark.parametrize("init", [init for init in CHOICES["init"] if init != "zeros"])
def test_an_embedding_from_the_lattice_has_its_directions_and_the_size_that_init_gives(init, embedding_init):
    drawn = made(init=init).params
    params = made(init=init, embedding_init=embedding_init).params
    rows = params["token_embedding"]
    ids = np.arange(len(rows))
    places = lattice.spiral_position(ids)
    if embedding_init == "lattice":
        unit = lattice.lattice_embedding(ids, lattice.nth_prime(ids + 1), rows.shape[1], places)
    else:
        unit = lattice.spiral_embedding(ids, rows.shape[1], places)
    lengths = np.linalg.norm(rows, axis=1)
    assert np.allclose(rows, lengths[:, None] * unit, rtol=1e-12)
    assert np.allclose(lengths**2, (drawn["token_embedding"] ** 2).sum(axis=1).mean(), rtol=1e-12)
    others = [name for name in params if name != "token_embedding"]
    assert all(np.array_equal(params[name], drawn[name]) for name in others)


def test_zeros_leave_nothing_of_the_lattice():
    assert not made(init="zeros", embedding_init="lattice").params.flat.any()


def test_the_controls_reach_the_embedding():
    plain = made(embedding_init="lattice").params["token_embedding"]
    for control in ({"token_primes": "shuffled"}, {"token_places": "shuffled"}, {"token_places": "random"}):
        moved = made(embedding_init="lattice", **control).params["token_embedding"]
        assert not np.allclose(moved, plain)
        assert np.allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(plain, axis=1))
