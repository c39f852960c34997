import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.model.config import CHOICES, ModelConfig
from cllm_lab.model.parts import Part
from cllm_lab.model.transformer import Transformer
from tests import oracle
from tests.model.configurations import CASES, NAMES, TABLES, Case, by_name

BOTH_DTYPES = ("float32", "float64")


def assert_gradients_agree(grads, expected, tolerance):
    """Every entry within ``tolerance`` times the largest of its tensor.

    A tensor whose gradient nearly vanishes is the difference of terms of the size of the others, so no
    rounding is finer than that of the largest gradient of all: the floor is 1e-3 of it.
    """
    assert list(grads) == list(expected)
    floor = 1e-3 * max(np.abs(array).max() for array in expected.values())
    for name, array in expected.items():
        assert grads[name].shape == array.shape
        scale = max(np.abs(array).max(), floor)
        assert np.abs(grads[name] - array).max() <= tolerance * scale, name


# Against the oracle.


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loss_logits_and_every_gradient_are_those_of_the_oracle(case, table):
    model = case.model(table)
    tokens, targets = case.tokens_and_targets()
    masks = case.masks()
    assert len(masks) == (1 + model.config.n_layers * (1 + (model.config.attention != "none"))) * (
        model.config.dropout > 0
    )
    loss, grads = model.gradients(tokens, targets, case.dropout_seed)
    expected_loss, expected_grads = oracle.loss_and_gradients(
        model.config, model.params, tokens, targets, masks
    )
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert model.loss(tokens, targets, case.dropout_seed) == loss
    expected_logits = oracle.logits_of(model.config, model.params, tokens, masks)
    assert np.allclose(
        model.forward(tokens, case.dropout_seed).logits, expected_logits, rtol=1e-10, atol=1e-12
    )
    assert_gradients_agree(grads, {name: expected_grads[name] for name in grads}, 1e-10)


@st.composite
def machines(draw):
    n_heads = draw(st.integers(1, 3))
    length = draw(st.integers(1, 6))
    config = ModelConfig(
        vocab_size=draw(st.integers(2, 12)),
        context_length=length + draw(st.integers(0, 2)),
        d_model=2 * n_heads * draw(st.integers(2 if n_heads == 1 else 1, 3)),
        n_heads=n_heads,
        n_layers=draw(st.integers(1, 2)),
        d_ff=draw(st.integers(1, 9)),
        norm=draw(st.sampled_from(CHOICES["norm"])),
        attention=draw(st.sampled_from(CHOICES["attention"])),
        positions=draw(st.sampled_from(CHOICES["positions"])),
        activation=draw(st.sampled_from(CHOICES["activation"])),
        tied=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.4])),
    )
    return Case(f"drawn {draw(st.integers(0, 999))}", config, draw(st.integers(1, 3)), length)


@settings(max_examples=25)
@given(case=machines(), table=st.sampled_from(sorted(TABLES)))
def test_so_are_those_of_any_machine(case, table):
    model = case.model(table)
    tokens, targets = case.tokens_and_targets()
    loss, grads = model.gradients(tokens, targets, case.dropout_seed)
    expected_loss, expected = oracle.loss_and_gradients(
        model.config, model.params, tokens, targets, case.masks()
    )
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert_gradients_agree(grads, {name: expected[name] for name in grads}, 1e-10)


# What it must do, whatever the numbers.


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=60)
@given(name=st.sampled_from(NAMES), place=st.integers(0, 20), shift=st.integers(1, 20))
def test_no_position_sees_a_later_one(table, dtype, name, place, shift):
    case = by_name(name)
    model = case.model(table, dtype)
    tokens, _ = case.tokens_and_targets()
    place %= case.length
    changed = tokens.copy()
    changed[:, place] = (
        changed[:, place] + 1 + shift % (case.config.vocab_size - 1)
    ) % case.config.vocab_size
    before = model.forward(tokens, case.dropout_seed).logits
    after = model.forward(changed, case.dropout_seed).logits
    assert np.array_equal(before[:, :place], after[:, :place])
    assert (before[:, place] != after[:, place]).any(axis=-1).all()


@pytest.mark.parametrize("table", TABLES)
def test_a_later_position_sees_an_earlier_one_only_through_attention(table):
    for name in ("default", "no-attention"):
        case = by_name(name)
        model = case.model(table)
        tokens, _ = case.tokens_and_targets()
        changed = tokens.copy()
        changed[:, 0] = (changed[:, 0] + 1) % case.config.vocab_size
        moved = (model.forward(tokens).logits != model.forward(changed).logits).any(axis=(0, 2))
        assert moved.tolist() == [True, *([name == "default"] * (case.length - 1))]


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_mask_lets_the_future_through(table):
    case = by_name("default")
    everything = Part("planted", lambda T, site: np.ones((T, T), bool))
    model = case.model(table).swapped(mask=everything)
    tokens, _ = case.tokens_and_targets()
    changed = tokens.copy()
    changed[:, -1] = (changed[:, -1] + 1) % case.config.vocab_size
    assert (model.forward(tokens).logits[:, 0] != model.forward(changed).logits[:, 0]).any()


@pytest.mark.parametrize("table", TABLES)
def test_sequences_of_a_batch_do_not_see_each_other(table):
    case = by_name("default")
    model = case.model(table)
    tokens, _ = case.tokens_and_targets()
    together = model.forward(tokens).logits
    alone = np.concatenate([model.forward(row[None]).logits for row in tokens])
    assert np.allclose(together, alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("table", TABLES)
def test_without_positions_a_single_layer_cannot_tell_the_order_of_what_came_before(table):
    case = Case("bag of words", replace(by_name("no-positions").config, n_layers=1))
    model = case.model(table)
    tokens, _ = case.tokens_and_targets()
    swapped = tokens[:, [1, 0, *range(2, case.length)]]
    assert (tokens[:, 0] != tokens[:, 1]).all()
    assert np.allclose(model.forward(tokens).logits[:, 2:], model.forward(swapped).logits[:, 2:], rtol=1e-12)
    ordered = by_name("one-layer").model(table)
    assert not np.allclose(ordered.forward(tokens).logits[:, 2:], ordered.forward(swapped).logits[:, 2:])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_of_the_attention_is_a_share_of_the_past(case, table):
    model = case.model(table)
    activations = model.forward(case.tokens_and_targets()[0])
    rows = [activations[name] for name in activations if name.endswith("attention.weights")]
    assert len(rows) == (case.config.n_layers if case.config.attention != "none" else 0)
    for weights in rows:
        assert np.allclose(weights.sum(axis=-1), 1.0, rtol=1e-14)
        assert (weights[..., ~np.tri(case.length, dtype=bool)] == 0.0).all()
        assert (weights[..., np.tri(case.length, dtype=bool)] > 0.0).all()


def loss_with(model, name, place, value, tokens, targets):
    twin = model.copy()
    twin.params[name][place] = value
    # Numbers that are none are what is asked for here; NumPy's warnings about them are not.
    with np.errstate(all="ignore"):
        return twin.loss(tokens, targets)


def used_place(name, tokens):
    """An entry that the batch reaches: a row of the token embedding counts where its token stands."""
    return (tokens[0, 0], 1) if name == "token_embedding" else -1 if name.endswith("b_qkv") else (0,)


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "name", ["default", "post-untied-gelu-sinusoidal", "no-attention-gelu", "odd-width-three-heads"]
)
def test_nan_in_any_parameter_reaches_the_loss(name, table, dtype):
    case = by_name(name)
    model = case.model(table, dtype)
    tokens, targets = case.tokens_and_targets()
    assert math.isfinite(model.loss(tokens, targets))
    swallowed = [
        tensor
        for tensor in model.params
        if not math.isnan(loss_with(model, tensor, used_place(tensor, tokens), math.nan, tokens, targets))
    ]
    assert swallowed == []


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
@pytest.mark.parametrize("name", ["default", "post-untied-gelu-sinusoidal", "no-attention-gelu"])
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_does_the_same_in_both_tables(name, dtype, value):
    """tanh turns an infinite bias into 1, by right; where the reference has a loss that is none, so has fast."""
    case = by_name(name)
    tokens, targets = case.tokens_and_targets()
    reference, fast = case.model("reference", dtype), case.model("fast", dtype)
    seen = {}
    for tensor in reference.params:
        place = used_place(tensor, tokens)
        seen[tensor] = loss_with(reference, tensor, place, value, tokens, targets)
        again = loss_with(fast, tensor, place, value, tokens, targets)
        assert np.isclose(again, seen[tensor], rtol=1e-5, equal_nan=True), tensor
    for tensor in ("token_embedding", "layers.0.w_ff2", "layers.1.b_ff2"):
        assert not math.isfinite(seen[tensor]), tensor


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
@pytest.mark.parametrize("table", TABLES)
def test_huge_weights_give_a_finite_loss(table, dtype):
    case = by_name("untied")
    model = case.model(table, dtype)
    model.params["output_embedding"][...] *= 1e4
    loss, grads = model.gradients(*case.tokens_and_targets())
    assert loss > 1e3
    assert math.isfinite(loss)
    assert np.isfinite(grads.flat).all()


# Seeds, dtypes, copies.


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["default", "dropout-post-gelu-untied"])
def test_the_same_seed_gives_the_same_bits(name, table, dtype):
    case = by_name(name)
    tokens, targets = case.tokens_and_targets()
    results = []
    for _ in range(2):
        model = Transformer(case.config, seed=7, dtype=dtype, parts=TABLES[table])
        loss, grads = model.gradients(tokens, targets, case.dropout_seed)
        results.append((loss, model.params.flat.tobytes(), grads.flat.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_everything_has_the_dtype_of_the_machine(case, table):
    model = case.model(table, "float32")
    tokens, targets = case.tokens_and_targets()
    loss, grads = model.gradients(tokens, targets, case.dropout_seed)
    activations = model.forward(tokens, case.dropout_seed)
    assert type(loss) is float
    assert {array.dtype for array in (*activations.values(), *grads.values())} == {np.dtype("float32")}


def test_the_fast_parts_are_the_default():
    assert Transformer(by_name("default").config).table is TABLES["fast"]


def test_a_copy_is_the_same_machine_with_weights_of_its_own():
    case = by_name("default")
    model = case.model().swapped(mask=Part("planted", lambda T, site: np.ones((T, T), bool)))
    tokens, targets = case.tokens_and_targets()
    before = model.loss(tokens, targets)
    twin = model.copy()
    assert twin.loss(tokens, targets) == before
    twin.params.flat[:] = 0.0
    assert model.loss(tokens, targets) == before


def test_astype_rounds_and_widens():
    model = by_name("default").model(dtype="float64")
    narrow = model.astype("float32")
    assert np.array_equal(narrow.params.flat, model.params.flat.astype(np.float32))
    assert narrow.dtype == narrow.params.flat.dtype == np.float32
    assert np.array_equal(narrow.astype("float64").params.flat, narrow.params.flat)
    assert model.dtype == model.params.flat.dtype == np.float64


def test_parameters_may_be_written_to():
    case = by_name("default")
    model = case.model()
    tokens, targets = case.tokens_and_targets()
    before = model.loss(tokens, targets)
    model.params["layers.0.w_ff1"][...] *= 2.0
    assert model.loss(tokens, targets) != before


# What a call returns belongs to the caller.


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["default", "dropout-post-gelu-untied", "sinusoidal", "no-positions"])
def test_activations_belong_to_the_caller(name, table):
    case = by_name(name)
    model = case.model(table)
    tokens, _ = case.tokens_and_targets()
    first = model.forward(tokens, case.dropout_seed)
    kept = {key: array.copy() for key, array in first.items()}
    second = model.forward(tokens, case.dropout_seed)
    model.forward(tokens[::-1], case.dropout_seed)
    for key, array in first.items():
        assert np.array_equal(array, kept[key])
        assert not np.shares_memory(array, model.params.flat)
        assert not any(np.shares_memory(array, other) for other in second.values())
    for array in first.values():
        array[...] = np.nan
    for key, array in model.forward(tokens, case.dropout_seed).items():
        assert np.array_equal(array, kept[key])


@pytest.mark.parametrize("table", TABLES)
def test_gradients_belong_to_the_caller(table):
    case = by_name("default")
    model = case.model(table)
    tokens, targets = case.tokens_and_targets()
    _, first = model.gradients(tokens, targets)
    kept = first.flat.copy()
    _, other = model.gradients(targets, tokens)
    assert not np.array_equal(other.flat, kept)
    assert np.array_equal(first.flat, kept)
    assert not np.shares_memory(first.flat, other.flat)
    assert not np.shares_memory(first.flat, model.params.flat)
    first.flat[:] = np.nan
    assert np.array_equal(model.gradients(tokens, targets)[1].flat, kept)


@pytest.mark.parametrize("table", TABLES)
def test_a_callers_arrays_are_left_alone_and_may_be_changed_later(table):
    case = by_name("default")
    model = case.model(table)
    tokens, targets = (ids.astype(np.int32) for ids in case.tokens_and_targets())
    kept = tokens.copy(), targets.copy(), model.params.flat.copy()
    activations = model.forward(tokens)
    before = activations.logits.copy()
    model.gradients(tokens, targets)
    assert all(map(np.array_equal, kept, (tokens, targets, model.params.flat)))
    tokens[:] = 0
    assert np.array_equal(activations.logits, before)


def test_forms_of_the_same_tokens_give_the_same_logits():
    case = by_name("default")
    model = case.model("fast")
    tokens, _ = case.tokens_and_targets()
    expected = model.forward(tokens).logits
    for form in (
        tokens.tolist(),
        tokens.astype(np.uint8),
        tokens.astype(np.int64),
        np.asfortranarray(tokens.astype(np.int32)),
        np.repeat(tokens, 2, axis=1)[:, ::2],
    ):
        assert np.array_equal(model.forward(form).logits, expected)


# Dropout.

WIDE = ModelConfig(vocab_size=50, context_length=16, d_model=32, n_heads=4, n_layers=2, dropout=0.3)


def wide_batch():
    return np.random.default_rng(0).integers(0, 50, (2, 8, 16))


@pytest.mark.parametrize("dtype", BOTH_DTYPES)
def test_dropout_draws_the_same_masks_in_both_tables(dtype):
    tokens, _ = wide_batch()
    drawn = [Transformer(WIDE, 0, dtype, table).forward(tokens, dropout_seed=4) for table in TABLES.values()]
    masks = [{name: acts[name] for name in acts if name.endswith(".mask")} for acts in drawn]
    assert list(masks[0]) == [
        "dropout.mask",
        *(f"layers.{i}.dropout{number}.mask" for i in (0, 1) for number in (1, 2)),
    ]
    assert len({mask.tobytes() for mask in masks[0].values()}) == 5
    for name, mask in masks[0].items():
        assert np.array_equal(mask, masks[1][name])
        kept = mask != 0.0
        assert np.allclose(mask[kept], 1.0 / 0.7, rtol=1e-6)
        # The share of n independent draws strays from p by sqrt(p (1 - p) / n); five of those.
        assert abs(1.0 - kept.mean() - 0.3) < 5.0 * math.sqrt(0.21 / mask.size)


@pytest.mark.parametrize("table", TABLES)
def test_dropout_keeps_the_mean(table):
    model = Transformer(WIDE, 0, "float64", TABLES[table])
    mask = model.forward(wide_batch()[0], dropout_seed=1)["dropout.mask"]
    # A draw is 1 / (1 - p) with probability 1 - p, so its variance is p / (1 - p).
    assert mask.mean() == pytest.approx(1.0, abs=5.0 * math.sqrt(0.3 / 0.7 / mask.size))


@pytest.mark.parametrize("table", TABLES)
def test_masks_act_where_they_stand(table):
    model = Transformer(WIDE, 0, "float64", TABLES[table])
    acts = model.forward(wide_batch()[0], dropout_seed=1)
    entering = acts["positions"] * acts["dropout.mask"]
    after = entering + acts["layers.0.attention"] * acts["layers.0.dropout1.mask"]
    assert np.allclose(acts["layers.0.residual1"], after, rtol=1e-14)
    assert np.allclose(
        acts["layers.0"], after + acts["layers.0.ff"] * acts["layers.0.dropout2.mask"], rtol=1e-14
    )


@pytest.mark.parametrize("table", TABLES)
def test_the_dropout_seed_decides_the_masks(table):
    model = Transformer(WIDE, 0, "float64", TABLES[table])
    tokens, targets = wide_batch()
    assert model.loss(tokens, targets, 1) == model.loss(tokens, targets, 1)
    assert model.loss(tokens, targets, 1) != model.loss(tokens, targets, 2)
    assert model.gradients(tokens, targets, 1)[0] == model.loss(tokens, targets, 1)


@pytest.mark.parametrize("table", TABLES)
def test_evaluation_knows_no_dropout(table):
    tokens, targets = wide_batch()
    with_dropout = Transformer(WIDE, 0, "float64", TABLES[table])
    without = Transformer(replace(WIDE, dropout=0.0), 0, "float64", TABLES[table])
    loss, grads = with_dropout.gradients(tokens, targets)
    plain_loss, plain_grads = without.gradients(tokens, targets)
    assert loss == plain_loss == with_dropout.loss(tokens, targets) == without.loss(tokens, targets, 1)
    assert np.array_equal(grads.flat, plain_grads.flat)
    assert not [name for name in with_dropout.forward(tokens) if "mask" in name]


# Swapped parts.


@pytest.mark.parametrize("table", TABLES)
def test_swapping_leaves_the_original_and_names_what_was_swapped(table):
    case = by_name("default")
    model = case.model(table)
    batch = case.tokens_and_targets()
    loss, parts = model.loss(*batch), model.parts
    doubled = Part(
        "doubled", lambda x, site: 2.0 * parts.embedding.forward(x, site), parts.embedding.backward
    )
    everything = Part("everything", lambda T, site: np.ones((T, T), bool))
    twin = model.swapped(mask=everything, embedding=doubled)
    assert twin.swapped_slots() == ("embedding", "mask")
    assert (twin.parts.mask, twin.parts.embedding, twin.parts.norm) == (everything, doubled, parts.norm)
    assert twin.loss(*batch) != loss
    assert model.swapped_slots() == ()
    assert model.parts is parts
    twin.params.flat[:] = 0.0
    assert model.loss(*batch) == loss


def test_a_swap_of_a_swapped_machine_keeps_the_first_and_may_be_taken_back():
    model = by_name("default").model()
    everything = Part("everything", lambda T, site: np.ones((T, T), bool))
    twice = model.swapped(mask=everything).swapped(norm=Part("identity", lambda x, site: x))
    assert twice.swapped_slots() == ("norm", "mask")
    assert twice.swapped(mask=model.parts.mask, norm=model.parts.norm).swapped_slots() == ()
    assert twice.astype("float32").swapped_slots() == ("norm", "mask")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_slot_of_a_healthy_machine_counts_as_swapped(case):
    for table in TABLES:
        assert case.model(table).swapped_slots() == ()


# Errors.


def refused(*arguments, method="loss", name="default"):
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(by_name(name).model("fast"), method)(*arguments)
    return str(caught.value)


GOOD = np.zeros((2, 5), int)


@pytest.mark.parametrize("method", ["forward", "loss", "gradients"])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (np.full((2, 5), 11), "tokens must lie in 0 to 10 (vocab_size=11); got ids from 11 to 11"),
        (np.array([[0, -1]]), "tokens must lie in 0 to 10 (vocab_size=11); got ids from -1 to 0"),
        (
            np.array([[2**32]]),
            "tokens must lie in 0 to 10 (vocab_size=11); got ids from 4294967296 to 4294967296",
        ),
        (np.array([[2**64 - 1]], np.uint64), "got ids from 18446744073709551615 to 18446744073709551615"),
        (np.zeros((2, 6), int), "tokens has 6 positions, more than context_length=5; use shorter windows"),
        (np.zeros(5, int), "tokens must have shape (batch, positions), neither empty; got shape (5,)"),
        (
            np.zeros((1, 2, 5), int),
            "tokens must have shape (batch, positions), neither empty; got shape (1, 2, 5)",
        ),
        (np.zeros((0, 5), int), "tokens must have shape (batch, positions), neither empty; got shape (0, 5)"),
        (np.zeros((2, 0), int), "tokens must have shape (batch, positions), neither empty; got shape (2, 0)"),
        (np.zeros((2, 5)), "tokens must hold whole numbers (token ids); got dtype float64"),
        (np.zeros((2, 5), bool), "tokens must hold whole numbers (token ids); got dtype bool"),
        ([["the", "cat"]], "tokens must hold whole numbers (token ids); got dtype <U3"),
        ("the cat", "tokens must hold whole numbers (token ids); got dtype <U7"),
        (None, "tokens must hold whole numbers (token ids); got dtype object"),
        ([[0, 1], [2]], "tokens must be rows of equal length"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tokens_that_cannot_work(method, wrong, text):
    arguments = (wrong,) if method == "forward" else (wrong, GOOD)
    assert text in refused(*arguments, method=method)


@pytest.mark.parametrize("method", ["loss", "gradients"])
def test_targets_that_cannot_work(method):
    assert "targets must lie in 0 to 10 (vocab_size=11); got ids from 12 to 12" in refused(
        GOOD, np.full((2, 5), 12), method=method
    )
    text = refused(GOOD, np.zeros((2, 4), int), method=method)
    assert text.startswith("targets must have the shape of tokens, (2, 5); got (2, 4)")
    assert "not one-hot rows" in text
    one_hot = np.zeros((2, 5, 11), int)
    assert "targets must have shape (batch, positions)" in refused(GOOD, one_hot, method=method)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"config": {"vocab_size": 5}}, TypeError, "config must be a ModelConfig; got dict"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of 'float32', 'float64'; got 'float16'"),
        ({"dtype": int}, ValueError, "dtype must be one of 'float32', 'float64'; got <class 'int'>"),
        ({"dtype": "half"}, ValueError, "dtype must be one of 'float32', 'float64'; got 'half'"),
        ({"dtype": "single precision"}, ValueError, "'float32', 'float64'; got 'single precision'"),
        ({"dtype": None}, ValueError, "dtype must be one of 'float32', 'float64'; got None"),
        ({"seed": -1}, ValueError, "seed must be a non-negative integer"),
        ({"seed": 0.5}, TypeError, "seed must be a non-negative integer"),
        ({"parts": "fast"}, TypeError, "parts must be a table, parts.fast or parts.reference; got 'fast'"),
    ],
    ids=str,
)
def test_a_machine_that_cannot_be_made(arguments, error, text):
    with pytest.raises(error) as caught:
        Transformer(**{"config": by_name("default").config, **arguments})
    assert text in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), "f4", ">f4"])
def test_a_dtype_has_many_names(dtype):
    case = by_name("default")
    model = Transformer(case.config, dtype=dtype)
    assert model.params.flat.dtype == np.dtype("float32")
    assert math.isfinite(model.loss(*case.tokens_and_targets()))


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), ("a", TypeError)])
@pytest.mark.parametrize("method", ["forward", "loss", "gradients"])
def test_a_dropout_seed_that_is_none_is_refused_by_its_name(method, seed, error):
    arguments = (GOOD,) if method == "forward" else (GOOD, GOOD)
    with pytest.raises(error, match="dropout_seed must be a non-negative integer"):
        getattr(by_name("default").model(), method)(*arguments, dropout_seed=seed)


def test_a_slot_that_does_not_exist():
    model = by_name("default").model()
    with pytest.raises(
        ValueError, match=r"no slot gate, relu; the slots are transformer, block, embedding, .* loss"
    ):
        model.swapped(relu=model.parts.norm, gate=model.parts.norm)


def test_what_fills_a_slot_must_be_a_part():
    with pytest.raises(
        TypeError, match=r"slot norm must be filled by a Part or changed by a PartEdit; got 'rms'"
    ):
        by_name("default").model().swapped(norm="rms")


def test_how_a_machine_shows_itself():
    model = Transformer(ModelConfig(vocab_size=611), parts=TABLES["reference"])
    size = model.params.flat.size
    assert repr(model) == (
        f"Transformer({size:,} parameters, V=611, d_model=64, n_layers=2, n_heads=4, float32, reference parts)"
    )
