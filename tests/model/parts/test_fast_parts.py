"""The fast parts against their twins in `reference`: whole machines, single parts, and kept buffers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.model.activations import GradientSink
from cllm_lab.model.transformer import Pass
from tests.model.configurations import CASES, TABLES, by_name
from tests.model.parts.bench import B, Bench, C, D, F, H, T, V

DTYPES = ("float32", "float64")

# Both tables round, in another order. In units of the last bit of an array's largest entry the worst seen over
# all cases is 11 for an activation (after some forty roundings in a row), 58 for a gradient, 1 for the loss.
ACTIVATION_BITS, GRADIENT_BITS, LOSS_BITS = 64, 256, 8


def assert_close(fast, reference, bits, floor=0.0):
    """Equal where not finite, else within ``bits`` last bits of the largest finite entry (or of ``floor``)."""
    fast, reference = np.asarray(fast), np.asarray(reference)
    assert fast.shape == reference.shape
    assert fast.dtype == reference.dtype
    finite = np.isfinite(reference)
    assert np.array_equal(fast[~finite], reference[~finite], equal_nan=True)
    assert np.isfinite(fast[finite]).all()
    if finite.any():
        scale = max(np.abs(reference[finite]).max(), floor)
        assert np.abs(fast[finite] - reference[finite]).max() <= bits * np.finfo(reference.dtype).eps * scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_tables_give_the_same_activations_under_the_same_names(case, dtype):
    tokens, _ = case.tokens_and_targets()
    reference, fast = (case.model(table, dtype).forward(tokens, case.dropout_seed) for table in TABLES)
    assert fast.names() == reference.names()
    for name in reference:
        assert_close(fast[name], reference[name], ACTIVATION_BITS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_tables_give_the_same_loss_and_gradients(case, dtype):
    batch = case.tokens_and_targets()
    (loss, grads), (fast_loss, fast_grads) = (
        case.model(table, dtype).gradients(*batch, case.dropout_seed) for table in TABLES
    )
    assert abs(fast_loss - loss) <= LOSS_BITS * np.finfo(dtype).eps * loss
    assert list(fast_grads) == list(grads)
    # A nearly vanishing gradient is a difference of terms of the size of the others.
    floor = 1e-3 * np.abs(grads.flat).max()
    for name in grads:
        assert_close(fast_grads[name], grads[name], GRADIENT_BITS, floor)


# Single parts, with a number that is none somewhere among their inputs.


def given_arrays(slot, rng, dtype):
    """Inputs of a part's forward, then gradients for its backward, and what an earlier part must have saved."""

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    x = (B, T, C)
    heads, square = (B, H, T, D), (B, H, T, T)
    return {
        "norm": lambda: ([normal(*x)], [normal(*x)], {}),
        "residual": lambda: ([normal(*x), normal(*x)], [normal(*x)], {}),
        "dropout": lambda: ([normal(*x)], [normal(*x)], {}),
        "positions": lambda: ([normal(*x)], [normal(*x)], {}),
        "qkv": lambda: ([normal(*x)], [normal(B, T, 3 * C)], {}),
        "heads": lambda: ([normal(B, T, 3 * C)], [(normal(*heads), normal(*heads), normal(*heads))], {}),
        "scores": lambda: ([(q := normal(*heads), k := normal(*heads))], [normal(*square)], {"q": q, "k": k}),
        "softmax": lambda: ([normal(*square)], [normal(*square)], {}),
        "mix": lambda: ([(w := normal(*square), v := normal(*heads))], [normal(*x)], {"weights": w, "v": v}),
        "w_out": lambda: ([m := normal(*x)], [normal(*x)], {"mixed": m}),
        "feed_forward": lambda: ([normal(*x)], [normal(*x)], {}),
        "activation": lambda: ([h := normal(B, T, F)], [normal(B, T, F)], {"pre": h}),
        "output": lambda: ([normal(*x)], [normal(B, T, V)], {}),
        "loss": lambda: ([normal(B, T, V)], [], {}),
    }[slot]()


def arrays_in(values):
    for value in values:
        yield from arrays_in(value) if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("slot", "case"),
    [
        ("norm", "default"),
        ("residual", "default"),
        ("dropout", "dropout"),
        ("positions", "default"),
        ("positions", "sinusoidal"),
        ("qkv", "default"),
        ("heads", "default"),
        ("scores", "default"),
        ("softmax", "default"),
        ("mix", "default"),
        ("w_out", "default"),
        ("feed_forward", "default"),
        ("activation", "default"),
        ("activation", "gelu"),
        ("output", "default"),
        ("output", "untied"),
        ("loss", "default"),
    ],
)
@settings(max_examples=15)
@given(data=st.data())
def test_a_part_does_what_its_twin_does_with_numbers_that_are_none(slot, case, dtype, data):
    inputs, gradients, saved = given_arrays(slot, np.random.default_rng(data.draw(st.integers(0, 99))), dtype)
    candidates = [*arrays_in(inputs), *arrays_in(gradients)]
    chosen = candidates[data.draw(st.integers(0, len(candidates) - 1))]
    value = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 0.0]))
    chosen.reshape(-1)[data.draw(st.integers(0, chosen.size - 1))] = value
    outcomes = []
    for table in TABLES:
        bench = Bench(slot, table, dtype, case)
        bench.site.saved.update(saved)
        with np.errstate(all="ignore"):
            outputs = [bench.forward(*inputs), bench.backward(*gradients)]
            outcomes.append((list(arrays_in(outputs)), dict(bench.site.saved), dict(bench.grads())))
    (outputs, kept, grads), (fast_outputs, fast_kept, fast_grads) = outcomes
    assert sum(isinstance(array, np.ndarray) for array in outputs) >= 1
    for array, fast in zip(outputs, fast_outputs, strict=True):
        if array is None:
            assert fast is None
        elif isinstance(array, float):
            assert fast == pytest.approx(array, rel=1e-5, nan_ok=True)
        else:
            assert_close(fast, array, ACTIVATION_BITS, floor=1.0)
    assert set(fast_kept) == set(kept)
    for name in kept:
        assert_close(fast_kept[name], kept[name], ACTIVATION_BITS, floor=1.0)
    for name in grads:
        assert_close(fast_grads[name], grads[name], ACTIVATION_BITS, floor=1.0)


# Kept buffers.


def used(training_pass, tokens, targets, dropout_seed):
    """Logits, loss and gradients of one use of a pass, copied."""
    rng = None if dropout_seed is None else np.random.default_rng(dropout_seed)
    logits = training_pass.forward(tokens.astype(np.int32), rng).copy()
    loss = training_pass.loss(targets.astype(np.int32))
    return logits.tobytes(), loss, training_pass.backward().flat.tobytes()


def new_pass(model):
    return Pass(model, GradientSink(model.params.like()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "name", ["default", "dropout", "sinusoidal", "post-untied-gelu-sinusoidal", "no-attention"]
)
def test_a_used_pass_gives_the_bits_of_a_new_one(name, table, dtype):
    """Whatever the shapes of the batches before it, and whether they dropped or not."""
    case = by_name(name)
    model = case.model(table, dtype)
    rng = np.random.default_rng(0)
    kept = new_pass(model)
    for shape, seed in [
        ((2, 5), None),
        ((2, 5), 1),
        ((3, 2), 2),
        ((1, 1), None),
        ((2, 5), None),
        ((2, 4), 3),
    ]:
        tokens, targets = rng.integers(0, case.config.vocab_size, (2, *shape))
        assert used(kept, tokens, targets, seed) == used(new_pass(model), tokens, targets, seed)


@pytest.mark.parametrize("table", TABLES)
def test_a_pass_recovers_from_numbers_that_are_none(table):
    case = by_name("default")
    model = case.model(table)
    tokens, targets = case.tokens_and_targets()
    kept = new_pass(model)
    healthy = used(kept, tokens, targets, None)
    weight = model.params["layers.0.w_qkv"]
    before = weight[0, 0]
    weight[0, 0] = math.nan
    with np.errstate(all="ignore"):
        assert math.isnan(used(kept, tokens, targets, None)[1])
    weight[0, 0] = before
    assert used(kept, tokens, targets, None) == healthy


def test_a_pass_follows_parts_that_are_swapped_while_it_is_in_use():
    """A machine that runs may be given another part: nothing of the earlier part's buffers may show."""
    case = by_name("default")
    model = case.model("fast")
    swaps = {
        "positions": by_name("sinusoidal").model("fast").parts.positions,
        "activation": by_name("gelu").model("fast").parts.activation,
    }
    tokens, targets = case.tokens_and_targets()
    kept = new_pass(model)
    used(kept, tokens, targets, None)
    kept.run.parts = model.parts.replace(**swaps)
    expected = used(new_pass(model.swapped(**swaps)), tokens, targets, None)
    assert used(kept, tokens, targets, None) == expected


def test_a_kept_pass_writes_into_the_buffers_that_it_has():
    case = by_name("default")
    model = case.model("fast", "float32")
    tokens, targets = (ids.astype(np.int32) for ids in case.tokens_and_targets())
    kept = new_pass(model)
    first_logits = kept.forward(tokens)
    kept.loss(targets)
    first = dict(kept.activations())
    first_grads = kept.backward()
    assert kept.forward(targets) is first_logits
    kept.loss(tokens)
    assert kept.backward() is first_grads
    again = dict(kept.activations())
    moved = [name for name in first if not np.shares_memory(first[name], again[name])]
    assert moved == []
