"""The compiled pass: the same numbers as the parts, proven by itself, the same bits for any number of threads."""

import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import cllm_lab as lab
from cllm_lab.model.compiled_pass import WORTH_A_THREAD, CompiledPass, suits
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.model.parts import pass_kernels
from cllm_lab.model.parts.vector_tiles import ROWS
from cllm_lab.model.transformer import Pass, Transformer
from tests import oracle
from tests.large_machine import assert_they_agree
from tests.model.configurations import CASES, Case, by_name
from tests.model.parts.test_fast_parts import GRADIENT_BITS, LOSS_BITS, assert_close

DTYPES = ("float32", "float64")


def _case(name, batch=2, length=5, **settings):
    defaults = {"vocab_size": 11, "context_length": 5, "d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 12}
    return Case(name, lab.ModelConfig(**{**defaults, **settings}), batch, length)


# A norm of one column multiplies what it was given by 1 / sqrt(epsilon), and its rounding.
ONE_COLUMN = {"d_model": 1, "n_heads": 1, "norm_epsilon": 0.1}
EDGES = [
    _case("one-column", **ONE_COLUMN),
    _case("one-column-and-one-token", **ONE_COLUMN, d_ff=1, vocab_size=2, batch=1, length=1),
    _case("hidden-layer-narrower-than-model", d_ff=3, activation="gelu"),
    _case("one-sequence-untied", batch=1, tied=False),
    _case("untied-shorter-than-context", tied=False, context_length=9, length=2, batch=3),
]
# Wider than the tiles and the lanes of the kernels, by a little, and small enough to be one case.
WIDE = _case(
    "wide", d_model=66, n_heads=2, d_ff=150, vocab_size=131, context_length=37, length=35, batch=3, n_layers=2
)
COMPILED = [*(case for case in CASES if suits(case.model("fast", "float32"))), *EDGES]


def run(model, tokens, targets, n_threads=None):
    """Loss and gradients, from a buffer in which every number that is not written shows."""
    compiled = fresh_pass(model, np.shape(tokens), n_threads)
    return loss_of(compiled, tokens, targets), compiled.backward()


def fresh_pass(model, shape, n_threads=None):
    return CompiledPass(model, model.params.like(np.full_like(model.params.flat, np.nan)), shape, n_threads)


def loss_of(compiled, tokens, targets):
    tokens, targets = compiled.model.require_batch(tokens, targets)
    compiled.forward(tokens)
    return compiled.loss(targets)


def bits(loss, grads):
    """To be asked for before the pass overwrites its gradients."""
    return loss.hex(), grads.flat.tobytes()


class Compiled(Transformer):
    """A machine whose public loss and gradients are those of the compiled pass."""

    def loss(self, tokens, targets, dropout_seed=None):
        return run(self, tokens, targets)[0]

    def gradients(self, tokens, targets, dropout_seed=None):
        return run(self, tokens, targets)


def test_it_stands_for_pre_norm_machines_with_plain_attention_and_without_dropout():
    plain = {"norm": "pre", "attention": "multi-head", "dropout": 0.0}
    plain |= {"keys": "projected", "head_symmetry": "none", "attention_bias": "none"}
    expected = {
        case.name
        for case in [*CASES, *EDGES]
        if all(getattr(case.config, field) == choice for field, choice in plain.items())
    }
    assert {case.name for case in COMPILED} == expected
    assert len(expected) > 20


def test_it_does_not_stand_for_other_parts_or_dtypes():
    model = by_name("default").model("fast", "float32")
    assert suits(model)
    assert not suits(by_name("default").model("fast", "float64"))
    assert not suits(by_name("default").model("reference", "float32"))
    swapped = lab.parts.Part("same", model.parts.mix.forward, model.parts.mix.backward)
    assert not suits(model.swapped(mix=swapped))


def test_it_stands_for_machines_of_any_size():
    assert suits(Transformer(lab.ModelConfig(vocab_size=20_000, d_model=128)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*COMPILED, WIDE], ids=lambda case: case.name)
def test_loss_and_gradients_are_those_of_the_reference(case, dtype):
    batch = case.tokens_and_targets()
    loss, grads = case.model("reference", dtype).gradients(*batch)
    found_loss, found = run(case.model("fast", dtype), *batch)
    assert abs(found_loss - loss) <= LOSS_BITS * np.finfo(dtype).eps * loss
    # Before a norm of one column every gradient is 0, a difference of two equal terms.
    floor = (1e-3 if case.config.d_model > 1 else 1.0) * np.abs(grads.flat).max()
    for name in grads:
        assert_close(found[name], grads[name], GRADIENT_BITS, floor)


@pytest.mark.parametrize("case", [*COMPILED, WIDE], ids=lambda case: case.name)
def test_loss_and_gradients_are_those_of_the_oracle(case):
    tokens, targets = case.tokens_and_targets()
    model = case.model("fast")
    loss, grads = oracle.loss_and_gradients(model.config, model.params, tokens, targets)
    found_loss, found = run(model, tokens, targets)
    assert found_loss == pytest.approx(loss, rel=1e-12)
    scale = np.abs(np.concatenate([grad.ravel() for grad in grads.values()])).max()
    far = {name: np.abs(found[name] - grads[name]).max() / scale for name in grads}
    assert {name: error for name, error in far.items() if not error <= 1e-12} == {}


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_every_gradient_is_that_of_its_loss_by_finite_differences(case):
    model = case.model("fast")
    model.__class__ = Compiled
    errors = gradient_check(model, *case.tokens_and_targets())
    assert list(errors) == list(model.params)
    assert {name: error for name, error in errors.items() if not error <= 1e-6} == {}


def test_a_large_machine_has_the_gradients_of_the_reference():
    config = lab.ModelConfig(vocab_size=300, context_length=16, d_model=512, n_heads=8, n_layers=1)
    tokens, targets = np.random.default_rng(0).integers(0, 300, (2, 2, 16))
    reference = Transformer(config, parts=lab.parts.reference)
    assert_they_agree(run(Transformer(config), tokens, targets, 2), reference.gradients(tokens, targets))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("case", [*COMPILED, WIDE], ids=lambda case: case.name)
def test_no_bit_depends_on_the_number_of_threads(case, batch, dtype):
    model = case.model("fast", dtype)
    ids = np.random.default_rng(1).integers(0, case.config.vocab_size, (2, batch, case.length))
    found = {n_threads: bits(*run(model, *ids, n_threads)) for n_threads in (1, 2, 3, 5, 7)}
    assert {n_threads for n_threads in found if found[n_threads] != found[1]} == set()


def test_the_number_of_threads_is_that_of_the_work_at_most_those_that_there_are():
    def n_threads(model, shape, limit):
        with threadpool_limits(limits=limit, user_api="blas"):
            return len(fresh_pass(model, shape)._products)

    small, wide = (Transformer(lab.ModelConfig(vocab_size=50, d_model=d)) for d in (8, 128))
    worth = 3 * 4 * 32 * wide.params.flat.size // WORTH_A_THREAD
    assert worth > 3
    assert [n_threads(wide, (4, 32), limit) for limit in (1, 2, 3, worth + 1)] == [1, 2, 3, worth]
    assert n_threads(small, (4, 32), 3) == 1


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_the_weights_are_shared_out_evenly_in_whole_tiles(n_threads):
    config = lab.ModelConfig(vocab_size=301, d_model=64)
    compiled = fresh_pass(Transformer(config), (1, 2), n_threads)
    sizes = [
        [call.args[2].shape for call in calls if call.func is pass_kernels.weight_gradient]
        for calls in compiled._weight_gradients
    ]
    entries = [sum(rows * columns for rows, columns in shapes) for shapes in sizes]
    largest_tile = ROWS * 3 * config.d_model
    assert len(sizes) == n_threads
    assert max(entries) - min(entries) <= 2 * largest_tile
    # Only the last part of a matrix may end within a tile: that of the embedding once, and four of each layer.
    broken = sum(rows % ROWS != 0 for shapes in sizes for rows, _ in shapes)
    whole = [config.vocab_size, *[64, 64, 64, config.width_ff] * config.n_layers]
    assert broken == sum(rows % ROWS != 0 for rows in whole)


@pytest.mark.parametrize("case", [by_name("default"), by_name("gelu"), WIDE], ids=lambda case: case.name)
def test_scores_and_logits_far_from_zero_do_not_overflow(case):
    batch = case.tokens_and_targets()
    reference, model = (case.model(table) for table in ("reference", "fast"))
    for each in (reference, model):
        each.params.flat[:] *= 1e3
    (loss, grads), (found_loss, found) = reference.gradients(*batch), run(model, *batch)
    assert loss > 1e4
    assert found_loss == pytest.approx(loss, rel=1e-9)
    assert np.abs(found.flat - grads.flat).max() <= 1e-9 * np.abs(grads.flat).max()


# One object, batch after batch.


@pytest.fixture(params=[1, 2])
def n_threads(request):
    return request.param


def two_batches(case=WIDE):
    rng = np.random.default_rng(1)
    return rng.integers(0, case.config.vocab_size, (2, 2, case.batch, case.length))


def test_a_second_batch_gives_what_a_fresh_pass_gives(n_threads):
    model = WIDE.model("fast", "float32")
    compiled = fresh_pass(model, (WIDE.batch, WIDE.length), n_threads)
    for batch in (*two_batches(), two_batches()[0]):
        found = bits(loss_of(compiled, *batch), compiled.backward())
        assert found == bits(*run(model, *batch, n_threads))


def test_it_reads_the_parameters_of_now(n_threads):
    model = WIDE.model("fast", "float32")
    compiled = fresh_pass(model, (WIDE.batch, WIDE.length), n_threads)
    batch = two_batches()[0]
    loss_of(compiled, *batch)
    compiled.backward()
    model.params.flat[:] *= 0.9
    assert bits(loss_of(compiled, *batch), compiled.backward()) == bits(*run(model, *batch, n_threads))


def test_the_last_loss_is_the_one_that_is_taken_back(n_threads):
    model = WIDE.model("fast", "float32")
    compiled = fresh_pass(model, (WIDE.batch, WIDE.length), n_threads)
    first, second = two_batches()
    loss_of(compiled, *first)
    loss = loss_of(compiled, *second)
    assert compiled.loss(second[1].astype(np.int32)) == loss
    assert bits(loss, compiled.backward()) == bits(*run(model, *second, n_threads))


def test_going_back_without_a_loss_or_twice_is_refused(n_threads):
    model = WIDE.model("fast", "float32")
    compiled = fresh_pass(model, (WIDE.batch, WIDE.length), n_threads)
    batch = two_batches()[0]
    with pytest.raises(RuntimeError, match=r"call loss\(\) before"):
        compiled.backward()
    compiled.forward(model.require_batch(*batch)[0])
    with pytest.raises(RuntimeError, match=r"call loss\(\) before"):
        compiled.backward()
    compiled.loss(model.require_batch(*batch)[1])
    before = compiled.backward().flat.tobytes()
    with pytest.raises(RuntimeError, match=r"call loss\(\) before"):
        compiled.backward()
    assert compiled._grads.flat.tobytes() == before
    compiled.loss(model.require_batch(*batch)[1])
    compiled.forward(model.require_batch(*batch)[0])
    with pytest.raises(RuntimeError, match=r"call loss\(\) before"):
        compiled.backward()


def test_going_back_after_an_interrupted_loss_is_refused(monkeypatch, n_threads):
    model = WIDE.model("fast", "float32")
    compiled = fresh_pass(model, (WIDE.batch, WIDE.length), n_threads)
    tokens, targets = model.require_batch(*two_batches()[0])
    compiled.forward(tokens)
    compiled.loss(targets)
    monkeypatch.setattr(compiled._shares[0], "forward", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compiled.loss(targets)
    with pytest.raises(RuntimeError, match=r"call loss\(\) before"):
        compiled.backward()


def test_passes_of_one_machine_do_not_disturb_each_other(n_threads):
    model = WIDE.model("fast", "float32")
    batches = two_batches()
    passes = [fresh_pass(model, (WIDE.batch, WIDE.length), n_threads) for _ in batches]
    losses = [loss_of(compiled, *batch) for compiled, batch in zip(passes, batches, strict=True)]
    found = [bits(loss, compiled.backward()) for loss, compiled in zip(losses, passes, strict=True)]
    assert found == [bits(*run(model, *batch, n_threads)) for batch in batches]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "tensor", ["token_embedding", "layers.0.w_qkv", "layers.0.b_ff1", "layers.1.w_out", "ln_final.gamma"]
)
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_a_parameter_that_is_no_number_shows_in_the_loss_or_a_gradient(activation, tensor, value, n_threads):
    case = by_name("default" if activation == "tanh" else "gelu")
    model = case.model("fast", "float32")
    model.params[tensor].flat[3] = value
    tokens = np.arange(10).reshape(2, 5) % case.config.vocab_size
    with np.errstate(all="ignore"):
        loss, grads = run(model, tokens, tokens, n_threads)
        reference = case.model("reference", "float32")
        reference.params[tensor].flat[3] = value
        expected, expected_grads = reference.gradients(tokens, tokens)
    assert np.isfinite(loss) == np.isfinite(expected)
    assert np.isfinite(grads.flat).all() == np.isfinite(expected_grads.flat).all()


def test_the_activations_of_the_last_batch_can_be_asked_for():
    case = by_name("default")
    model = case.model("fast")
    tokens, targets = model.require_batch(*case.tokens_and_targets())
    compiled = fresh_pass(model, tokens.shape)
    loss_of(compiled, tokens, targets)
    full = Pass(model)
    full.forward(tokens)
    full.loss(targets)
    expected, found = full.activations(), compiled.activations()
    assert found.names() == expected.names()
    for name in expected:
        assert (found[name] == expected[name]).all()


AFTER = {
    "nothing": "",
    "a pass through the parts": "lab.Transformer(config).gradients(tokens, targets)",
    "large products of the parts": "lab.Transformer(replace(config, d_model=512)).gradients(tokens, targets)",
    "a step of another machine": "lab.Trainer(lab.Transformer(replace(config, norm='post')), corpus).run(steps=1)",
    "products in float64": "Products(np.dtype('float64'))",
    "a step in float64": """
double = lab.Transformer(config, dtype="float64")
compiled = CompiledPass(double, double.params.like(), (1, 32))
compiled.forward(tokens)
compiled.loss(targets)
compiled.backward()
""",
}


def steps_after(code):
    """What two steps made of a machine, in a new process that has done something else before."""
    program = f"""
import hashlib
from dataclasses import replace
import numpy as np
import cllm_lab as lab
from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.parts.products import Products
corpus = lab.load_corpus("large")
tokens, targets = corpus.tokens[None, :32], corpus.tokens[None, 1:33]
config = lab.ModelConfig(vocab_size=corpus.vocab_size)
{code}
trainer = lab.Trainer(lab.Transformer(config), corpus)
trainer.run(steps=2)
print(hashlib.sha256(trainer.params.flat.tobytes()).hexdigest())
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_what_a_process_did_before_changes_no_bit():
    found = {name: steps_after(code) for name, code in AFTER.items()}
    assert len(set(found.values())) == 1, found
