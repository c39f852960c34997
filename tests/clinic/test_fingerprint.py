"""The fingerprint of gradients: sound ones at both precisions, and each kind of wrong by its name."""

import math

import numpy as np
import pytest

from cllm_lab.clinic.fingerprint import gradient_fingerprint
from cllm_lab.faults import catalogue
from cllm_lab.model.parts import Part, reference
from tests.clinic.subjects import (
    ATTENTION_TENSORS,
    CONSTANT_LOSS,
    DOUBLED_ATTENTION,
    DROPPED,
    FACTOR_2,
    HEALTHY,
    NAN_IN_LAST_ROW,
    NO_MASK,
    TRANSPOSED,
    WRONG_SIGN,
    Bigram,
    after_backward,
    batch_for,
    bigram_batch,
    left_alone,
    small_vocabulary,
    trainer,
)

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def kinds(found):
    return set(found.kinds.values())


@DTYPES
@pytest.mark.parametrize("seed", range(len(HEALTHY)))
def test_a_healthy_machine_agrees_and_is_left_alone(seed, dtype):
    subject = trainer(dtype=dtype, seed=seed, **HEALTHY[seed])
    before = left_alone(subject)
    point = "here" if seed in (0, 3, 6) else "near"
    found = gradient_fingerprint(subject, *batch_for(subject, seed), seed=seed, point=point)
    assert kinds(found) == {"agrees"}
    assert found.passed
    assert left_alone(subject) == before
    if dtype == "float64":
        assert max(tensor.error for tensor in found.tensors.values()) < 1e-6


def test_a_healthy_machine_with_a_rugged_loss_agrees():
    # With such weights the loss turns within a step that is small beside the weights.
    subject = catalogue()["init-too-large"].broken(dtype="float64", parts=reference)
    tokens = subject.corpus.tokens[:33]
    found = gradient_fingerprint(subject, tokens[None, :-1], tokens[None, 1:])
    assert kinds(found) == {"agrees"}


def test_fast_parts_and_a_tiny_vocabulary_agree():
    for subject in (trainer("fast", "float32"), small_vocabulary(), small_vocabulary(1, "float32")):
        assert kinds(gradient_fingerprint(subject, *batch_for(subject))) == {"agrees"}


def test_the_derivatives_are_those_along_the_gradient():
    subject = trainer()
    batch = batch_for(subject)
    _, grads = subject.gradients(*batch)
    found = gradient_fingerprint(subject, *batch, point="here")
    for name, tensor in found.tensors.items():
        norm = np.linalg.norm(grads[name])
        assert tensor.analytic[0] == pytest.approx(norm, rel=1e-12)
        assert tensor.numeric[0] == pytest.approx(norm, rel=1e-6)
        assert len(tensor.analytic) == len(tensor.numeric) == len(tensor.uncertainty) == 4
        assert tensor.ratio == pytest.approx(1.0, abs=1e-6)


@DTYPES
@pytest.mark.parametrize("table", ["reference", "fast"])
@pytest.mark.parametrize(
    ("swaps", "kind", "ratio"), [(WRONG_SIGN, "sign", -1.0), (FACTOR_2, "factor", 2.0)], ids=["sign", "2"]
)
def test_multiples_of_the_gradient(table, dtype, swaps, kind, ratio):
    subject = trainer(table, dtype, swaps)
    before = left_alone(subject)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert kinds(found) == {kind}
    assert not found.passed
    for tensor in found.tensors.values():
        assert tensor.ratio == pytest.approx(ratio, rel=2e-3 if dtype == "float32" else 1e-6)
    assert left_alone(subject) == before


def test_factors_are_written_with_their_size():
    subject = trainer(swaps=FACTOR_2)
    assert "factor 2: 16 of 16" in repr(gradient_fingerprint(subject, *batch_for(subject)))


@DTYPES
@pytest.mark.parametrize("factor", [0.99, -1.05, 100.0])
def test_a_factor_near_one_is_a_factor(dtype, factor):
    def change(grads):
        grads.flat *= factor

    subject = trainer(dtype=dtype, swaps=after_backward(change))
    assert kinds(gradient_fingerprint(subject, *batch_for(subject))) == {"factor"}


@DTYPES
def test_a_dropped_gradient_is_zero_and_the_others_agree(dtype):
    subject = trainer(dtype=dtype, swaps=DROPPED)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert found.of_kind("zero") == found.faulty == ("layers.0.w_qkv",)
    assert len(found.of_kind("agrees")) == 15
    assert found.tensors["layers.0.w_qkv"].ratio == 0.0
    assert "zero: 1 of 16 (exactly 0, yet the loss moves): layers.0.w_qkv" in repr(found)


@DTYPES
def test_a_gradient_of_another_matrix_is_incoherent(dtype):
    subject = trainer(dtype=dtype, swaps=TRANSPOSED)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert found.of_kind("incoherent") == found.faulty == ("layers.0.w_out",)
    assert not found.tensors["layers.0.w_out"].loss_unmoved


@DTYPES
def test_a_fault_inside_the_machine_is_localised(dtype):
    healthy = trainer(dtype=dtype).model.parts.attention
    doubled = Part("doubled", healthy.forward, lambda dy, site: 2.0 * healthy.backward(dy, site))
    subject = trainer(dtype=dtype, swaps={"attention": doubled})
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert set(found.of_kind("factor")) == {"layers.0.ln1.gamma", "layers.0.ln1.beta"}
    assert set(found.of_kind("incoherent")) == {"token_embedding", "position_embedding"}
    assert found.tensors["layers.0.ln1.gamma"].ratio == pytest.approx(2.0, rel=2e-3)


def test_half_of_a_tensor_dropped_is_incoherent():
    def change(grads):
        grads["layers.0.w_qkv"][:, :8] = 0.0

    subject = trainer(swaps=after_backward(change))
    assert gradient_fingerprint(subject, *batch_for(subject)).faulty == ("layers.0.w_qkv",)


def test_a_gradient_in_rows_that_the_batch_does_not_touch():
    untied = trainer(tied=False)
    batch = batch_for(untied)
    untouched = next(i for i in range(untied.model.config.vocab_size) if i not in batch[0])
    assert kinds(gradient_fingerprint(untied, *batch)) == {"agrees"}

    def change(grads):
        grads["token_embedding"][untouched] += 0.05

    subject = trainer(swaps=after_backward(change), tied=False)
    assert gradient_fingerprint(subject, *batch).faulty == ("token_embedding",)


@DTYPES
def test_tensors_without_effect(dtype):
    subject = trainer(dtype=dtype, swaps=DOUBLED_ATTENTION)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert set(found.of_kind("no effect")) == ATTENTION_TENSORS
    assert len(found.of_kind("agrees")) == 12
    assert found.passed


@DTYPES
def test_a_mask_that_is_missing_forward_and_backward_is_no_wrong_gradient(dtype):
    subject = trainer(dtype=dtype, swaps=NO_MASK)
    assert kinds(gradient_fingerprint(subject, *batch_for(subject))) == {"agrees"}


@DTYPES
def test_a_loss_that_ignores_the_model(dtype):
    subject = trainer(dtype=dtype, swaps=CONSTANT_LOSS)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert kinds(found) == {"incoherent"}
    assert all(tensor.loss_unmoved and tensor.ratio == math.inf for tensor in found.tensors.values())
    assert "of these the loss does not move with token_embedding" in repr(found)


def test_zeros_are_seen_through_from_a_point_nearby():
    subject = trainer(init="zeros", swaps={"initialisation": lambda params, config, seed: ""})
    batch = batch_for(subject)
    assert kinds(gradient_fingerprint(subject, *batch, point="here")) == {"no effect"}
    assert not gradient_fingerprint(subject, *batch, point="here").passed
    assert kinds(gradient_fingerprint(subject, *batch)) == {"agrees"}


def test_a_gradient_that_is_not_finite():
    subject = trainer(swaps=NAN_IN_LAST_ROW)
    found = gradient_fingerprint(subject, *batch_for(subject))
    assert found.of_kind("not finite") == found.faulty == ("token_embedding",)
    subject = trainer(swaps={"reported_loss": lambda loss, one_pass: math.nan})
    assert kinds(gradient_fingerprint(subject, *batch_for(subject))) == {"not finite"}


def test_what_is_lost_in_noise_cannot_be_told():
    model = Bigram()
    subject = model.subject()
    noise = np.random.default_rng(0)
    subject.loss = lambda inputs, targets: (
        model.gradients(inputs, targets)[0] + 100.0 * noise.standard_normal()
    )
    found = gradient_fingerprint(subject, *bigram_batch())
    assert kinds(found) == {"cannot tell"}
    assert not found.faulty
    assert not found.passed
    assert 10.0 < found.noise < 1000.0


def test_a_loss_in_float32_is_no_fault():
    for seed in range(5):
        model = Bigram("float32", seed)
        subject = model.subject()
        subject.loss = lambda inputs, targets, model=model: np.float32(model.gradients(inputs, targets)[0])
        found = gradient_fingerprint(subject, *bigram_batch(seed), seed=seed)
        assert kinds(found) == {"agrees"}
        assert found.noise >= np.finfo(np.float32).eps


def test_the_same_seed_gives_the_same_bits():
    model = Bigram()
    first, again, other = (
        gradient_fingerprint(model.subject(), *bigram_batch(), seed=seed).tensors["E"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.numeric != other.numeric


def test_a_loss_that_raises_leaves_all_as_it_was():
    model = Bigram()
    subject = model.subject()
    calls = iter(range(40))

    def loss(inputs, targets):
        if next(calls) == 30:
            raise ZeroDivisionError
        return model.gradients(inputs, targets)[0]

    subject.loss = loss
    before = model.bytes()
    with pytest.raises(ZeroDivisionError):
        gradient_fingerprint(subject, *bigram_batch())
    assert model.bytes() == before


def test_arguments_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="point must be one of 'near', 'here'; got 'there'"):
        gradient_fingerprint(Bigram().subject(), *bigram_batch(), point="there")
    with pytest.raises(TypeError, match="seed"):
        gradient_fingerprint(Bigram().subject(), *bigram_batch(), seed=0.5)
    with pytest.raises(TypeError, match="subject must have params"):
        gradient_fingerprint(3, *bigram_batch())
