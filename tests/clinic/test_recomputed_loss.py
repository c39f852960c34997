"""The loss from the logits, against the reported one and against a sum written out."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cllm_lab.clinic.recomputed_loss import cross_entropies, recomputed_loss
from tests.clinic.subjects import (
    CONSTANT_LOSS,
    DOUBLED_ATTENTION,
    HEALTHY,
    WORDS,
    Bigram,
    batch_for,
    bigram_batch,
    left_alone,
    small_vocabulary,
    trainer,
)


def written_out(logits, targets):
    terms = []
    for b, t in np.ndindex(targets.shape):
        row = [math.exp(z) for z in logits[b, t]]
        terms.append(-math.log(row[targets[b, t]] / math.fsum(row)))
    return math.fsum(terms) / len(terms)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", HEALTHY, ids=str)
def test_a_healthy_machine_reports_its_cross_entropy(settings, dtype):
    for seed in range(3):
        subject = trainer(dtype=dtype, seed=seed, **settings)
        inputs, targets = batch_for(subject, seed)
        before = left_alone(subject)
        found = recomputed_loss(subject, inputs, targets)
        assert found.agrees
        assert left_alone(subject) == before
        assert found.recomputed == pytest.approx(
            written_out(subject.forward(inputs).logits, targets), rel=1e-12
        )
        assert found.perplexity == pytest.approx(math.exp(found.recomputed))
        assert found.uniform == math.log(subject.model.config.vocab_size)


def test_other_healthy_subjects():
    for subject in (small_vocabulary(), small_vocabulary(dtype="float32"), trainer("fast", "float32")):
        assert recomputed_loss(subject, *batch_for(subject)).agrees
    assert recomputed_loss(Bigram("float32").subject(), *bigram_batch()).agrees
    subject = trainer(swaps=DOUBLED_ATTENTION)
    assert recomputed_loss(subject, *batch_for(subject)).agrees


def test_a_loss_that_ignores_the_model():
    subject = trainer(swaps=CONSTANT_LOSS)
    found = recomputed_loss(subject, *batch_for(subject))
    assert found.reported == 4.1855
    assert not found.agrees
    assert found.difference == 4.1855 - found.recomputed
    assert "it is not the cross-entropy of these logits" in repr(found)


@pytest.mark.parametrize(
    ("factor", "reason"), [(15.0, "the sum over the tokens, not the mean"), (1.0 / math.log(2.0), "in bits")]
)
def test_another_unit_is_named(factor, reason):
    model = Bigram()
    subject = model.subject()
    subject.loss = lambda inputs, targets: factor * model.gradients(inputs, targets)[0]
    found = recomputed_loss(subject, *bigram_batch())
    assert not found.agrees
    assert f"nats: {reason}" in repr(found)


@pytest.mark.parametrize(("share", "agrees"), [(1e-14, True), (1e-12, False)])
def test_the_tolerance_in_float64(share, agrees):
    model = Bigram()
    subject = model.subject()
    subject.loss = lambda inputs, targets: (1.0 + share) * model.gradients(inputs, targets)[0]
    assert recomputed_loss(subject, *bigram_batch()).agrees is agrees


def test_zero_logits_know_nothing():
    model = Bigram()
    for array in model.params.values():
        array[...] = 0.0
    found = recomputed_loss(model.subject(), *bigram_batch())
    assert found.agrees
    assert found.knows_nothing
    assert found.perplexity == pytest.approx(WORDS)
    assert repr(found).split("\n") == [
        "reported 1.9459, recomputed 1.9459 nats over 15 tokens (perplexity 7; ln V = 1.9459)",
        "agrees: the reported loss is the cross-entropy of the logits",
        "the cross-entropy is ln V: every word is as likely as every other",
    ]
    assert not recomputed_loss(Bigram().subject(), *bigram_batch()).knows_nothing


def test_logits_that_are_not_finite_never_agree():
    model = Bigram()
    subject = model.subject()
    subject.forward = lambda inputs: SimpleNamespace(logits=np.full((3, 5, WORDS), np.nan))
    found = recomputed_loss(subject, *bigram_batch())
    assert not found.agrees
    assert found.not_finite == 105
    assert "105 logits are not finite" in repr(found)


def test_large_logits_do_not_overflow():
    logits = np.array([[[1000.0, 0.0], [0.0, 0.0]]])
    assert cross_entropies(logits, np.array([[1, 1]])).mean() == (1000.0 + math.log(2.0)) / 2.0
    model = Bigram()
    subject = model.subject()
    subject.forward = lambda inputs: SimpleNamespace(logits=1e4 * np.eye(WORDS)[np.zeros((3, 5), int)])
    assert recomputed_loss(subject, bigram_batch()[0], np.ones((3, 5), int)).perplexity == math.inf


def test_targets_that_do_not_fit_are_refused():
    inputs, targets = bigram_batch()
    with pytest.raises(ValueError, match=r"targets must have the shape of inputs, \(3, 5\); got \(3, 4\)"):
        recomputed_loss(Bigram().subject(), inputs, targets[:, :4])
    with pytest.raises(
        ValueError, match="targets must lie in 0 to 6, the width of the logits; got ids from 7 to"
    ):
        recomputed_loss(Bigram().subject(), inputs, targets + 7)
    with pytest.raises(TypeError, match="subject must have params"):
        recomputed_loss(None, inputs, targets)
