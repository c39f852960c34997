"""The compiled pass: the same numbers as the parts, proven by itself, however the batch is shared out."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.model.compiled_pass import LARGE_MATRIX, CompiledPass, suits
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.model.transformer import Transformer
from tests import oracle
from tests.model.configurations import CASES, by_name
from tests.model.parts.test_fast_parts import GRADIENT_BITS, LOSS_BITS, assert_close

DTYPES = ("float32", "float64")
COMPILED = [case for case in CASES if suits(case.model("fast", "float32"))]


def run(model, tokens, targets, n_shares=None):
    """Loss and gradients, from a buffer in which every number that is not written shows."""
    tokens, targets = model.require_batch(tokens, targets)
    grads = model.params.like(np.full_like(model.params.flat, np.nan))
    compiled = CompiledPass(model, grads, tokens.shape, n_shares)
    compiled.forward(tokens)
    return compiled.loss(targets), compiled.backward()


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
        for case in CASES
        if all(getattr(case.config, field) == choice for field, choice in plain.items())
    }
    assert {case.name for case in COMPILED} == expected
    assert len(expected) > 20


def test_it_does_not_stand_for_other_parts_or_large_matrices():
    model = by_name("default").model("fast", "float32")
    assert suits(model)
    assert not suits(by_name("default").model("fast", "float64"))
    assert not suits(by_name("default").model("reference", "float32"))
    swapped = lab.parts.Part("same", model.parts.mix.forward, model.parts.mix.backward)
    assert not suits(model.swapped(mix=swapped))
    assert suits(Transformer(replace(model.config, vocab_size=LARGE_MATRIX // 8)))
    assert not suits(Transformer(replace(model.config, vocab_size=LARGE_MATRIX // 8 + 1)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_loss_and_gradients_are_those_of_the_reference(case, dtype):
    batch = case.tokens_and_targets()
    loss, grads = case.model("reference", dtype).gradients(*batch)
    found_loss, found = run(case.model("fast", dtype), *batch)
    assert abs(found_loss - loss) <= LOSS_BITS * np.finfo(dtype).eps * loss
    floor = 1e-3 * np.abs(grads.flat).max()
    for name in grads:
        assert_close(found[name], grads[name], GRADIENT_BITS, floor)


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
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


@pytest.mark.parametrize("n_shares", [2, 3, 5])
@pytest.mark.parametrize("name", ["default", "gelu", "untied", "sinusoidal", "window-shorter-than-context"])
def test_shares_add_up_to_the_whole(name, n_shares):
    case = by_name(name)
    model = case.model("fast")
    tokens, targets = np.random.default_rng(1).integers(0, case.config.vocab_size, (2, 5, case.length))
    loss, grads = run(model, tokens, targets, 1)
    shared_loss, shared = run(model, tokens, targets, n_shares)
    assert shared_loss == pytest.approx(loss, rel=1e-14)
    assert np.abs(shared.flat - grads.flat).max() <= 1e-14 * np.abs(grads.flat).max()


@pytest.mark.parametrize("n_shares", [1, 2])
def test_the_same_batch_gives_the_same_bits(n_shares):
    model = lab.Transformer(lab.ModelConfig(vocab_size=50), seed=3)
    tokens, targets = np.random.default_rng(1).integers(0, 50, (2, 4, 32))
    first, second = run(model, tokens, targets, n_shares), run(model, tokens, targets, n_shares)
    assert first[0] == second[0]
    assert first[1].flat.tobytes() == second[1].flat.tobytes()


@pytest.mark.parametrize("n_shares", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "tensor", ["token_embedding", "layers.0.w_qkv", "layers.0.b_ff1", "layers.1.w_out", "ln_final.gamma"]
)
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_a_parameter_that_is_no_number_shows_in_the_loss_or_a_gradient(activation, tensor, value, n_shares):
    case = by_name("default" if activation == "tanh" else "gelu")
    model = case.model("fast", "float32")
    model.params[tensor].flat[3] = value
    tokens = np.arange(10).reshape(2, 5) % case.config.vocab_size
    with np.errstate(all="ignore"):
        loss, grads = run(model, tokens, tokens, n_shares)
        reference = case.model("reference", "float32")
        reference.params[tensor].flat[3] = value
        expected, expected_grads = reference.gradients(tokens, tokens)
    assert np.isfinite(loss) == np.isfinite(expected)
    assert np.isfinite(grads.flat).all() == np.isfinite(expected_grads.flat).all()


def test_the_activations_of_the_last_batch_can_be_asked_for():
    case = by_name("default")
    model = case.model("fast")
    tokens, targets = model.require_batch(*case.tokens_and_targets())
    compiled = CompiledPass(model, model.params.like(), tokens.shape)
    compiled.forward(tokens)
    compiled.loss(targets)
    expected = model.forward(tokens)
    found = compiled.activations()
    assert set(expected.names()) <= set(found.names())
    for name in expected:
        assert (found[name] == expected[name]).all()


AFTER = {
    "nothing": "",
    "a pass through the parts": "lab.Transformer(config).gradients(tokens, targets)",
    "a step of another machine": "lab.Trainer(lab.Transformer(replace(config, norm='post')), corpus).run(steps=1)",
}


def gradient_norm_after(code):
    """The first step's gradient norm, to all its digits, in a new process that has done something else before."""
    program = f"""
from dataclasses import replace
import cllm_lab as lab
corpus = lab.load_corpus("large")
tokens, targets = corpus.tokens[None, :32], corpus.tokens[None, 1:33]
config = lab.ModelConfig(vocab_size=corpus.vocab_size)
{code}
trainer = lab.Trainer(lab.Transformer(config), corpus)
trainer.run(steps=2)
print(repr(trainer.history[1].grad_norm))
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_what_a_process_did_before_changes_no_bit():
    found = {name: gradient_norm_after(code) for name, code in AFTER.items()}
    assert len(set(found.values())) == 1, found
