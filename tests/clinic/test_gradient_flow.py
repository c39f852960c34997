"""The gradient's size at each place, held against gradients measured otherwise."""

import math

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.gradient_flow import GradientFlow, Passage
from cllm_lab.faults.catalogue import catalogue

SETTINGS = {"vocab_size": 7, "context_length": 4, "d_model": 8, "n_heads": 2, "n_layers": 3}
TOKENS, TARGETS = np.random.default_rng(0).integers(0, 7, (2, 2, 4))


def machine(dtype: str = "float64", **settings: object) -> lab.Transformer:
    return lab.Transformer(lab.ModelConfig(**SETTINGS, **settings), seed=0, dtype=dtype)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_gradient_at_the_last_block_is_the_chain_of_what_stands_behind_it(norm: str) -> None:
    model = machine(norm=norm)
    acts = model.forward(TOKENS)
    probabilities = np.exp(acts.logits - acts.logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    dhidden = (probabilities - np.eye(7)[TARGETS]) / TARGETS.size @ model.params["token_embedding"]
    flow = lab.gradient_flow(model, TOKENS, TARGETS, "norm")
    assert flow.passages[-1].name == ("final_hidden" if norm == "pre" else "layers.2.ln2")
    assert flow.passages[-1].dy == pytest.approx(np.linalg.norm(dhidden), rel=1e-12)
    assert len(flow.passages) == (7 if norm == "pre" else 6)


def test_the_gradient_at_the_first_input_is_that_of_the_embedded_tokens() -> None:
    # With each token once and an untied output, a row of the embedding receives the gradient of its place.
    model = machine(tied=False)
    tokens = np.array([[0, 1, 2, 3]])
    _, grads = model.gradients(tokens, tokens[:, ::-1])
    flow = lab.gradient_flow(model, tokens, tokens[:, ::-1])
    assert flow.passages[0].dx == pytest.approx(np.linalg.norm(grads["token_embedding"]), rel=1e-12)


def test_places_stand_in_order_and_each_hands_over_what_it_gives() -> None:
    flow = lab.gradient_flow(machine(), TOKENS, TARGETS)
    assert [passage.name for passage in flow.passages] == ["layers.0", "layers.1", "layers.2"]
    for before, after in zip(flow.passages, flow.passages[1:], strict=False):
        assert before.dy == after.dx
    assert flow.norms == (flow.passages[0].dx, *(passage.dy for passage in flow.passages))
    assert math.prod(passage.factor for passage in flow.passages) == pytest.approx(flow.total, rel=1e-12)
    assert flow.per_place**3 == pytest.approx(flow.total, rel=1e-12)


def test_a_norm_of_a_constant_input_multiplies_by_one_over_the_root_of_epsilon() -> None:
    model = machine(tied=False, attention="none", positions="none")
    model.params["token_embedding"][...] = 0.5
    passage = lab.gradient_flow(model, TOKENS, TARGETS, "norm").passages[0]
    assert 0.5 / math.sqrt(1e-5) < passage.factor <= (1.0 + 1e-12) / math.sqrt(1e-5)


def test_the_fast_machine_in_float32_gives_the_same() -> None:
    for slot in ("block", "norm", "attention", "feed_forward"):
        exact = lab.gradient_flow(machine(), TOKENS, TARGETS, slot)
        fast = lab.gradient_flow(machine("float32"), TOKENS, TARGETS, slot)
        np.testing.assert_allclose(fast.norms, exact.norms, rtol=1e-4)


def test_a_trainer_is_taken_with_its_faults_and_nothing_changes() -> None:
    fault = catalogue()["vanishing-gradient"]
    trainer = fault.broken()
    tokens = trainer.corpus.tokens[:65]
    before = trainer.params.flat.copy()
    flow = lab.gradient_flow(trainer, tokens[:-1].reshape(2, 32), tokens[1:].reshape(2, 32))
    assert flow.total < 1e-12 and flow.per_place < 0.05
    np.testing.assert_array_equal(before, trainer.params.flat)


def test_no_gradient_is_said_so() -> None:
    flow = lab.gradient_flow(machine(init="zeros"), TOKENS, TARGETS)
    assert math.isnan(flow.total) and math.isnan(flow.per_place) and math.isnan(flow.passages[0].factor)
    assert repr(flow) == "no gradient arrives at the last block of 3"


def test_its_words() -> None:
    flow = GradientFlow((Passage("layers.0", 2e-2, 8e-2), Passage("layers.1", 5e-3, 2e-2)), "block")
    assert repr(flow) == (
        "gradient of the loss, backwards through 2 places of the slot block: 5e-03 at the last output, "
        "8e-02 at the first input\ntimes 4 a place"
    )


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(TypeError, match="machine must be a Transformer or a Trainer; got str"):
        lab.gradient_flow("machine", TOKENS, TARGETS)
    with pytest.raises(
        ValueError, match="slot must be one of block, norm, attention, feed_forward; got 'loss'"
    ):
        lab.gradient_flow(machine(), TOKENS, TARGETS, "loss")
    with pytest.raises(ValueError, match="no gradient passes the slot 'attention' of this machine"):
        lab.gradient_flow(machine(attention="none"), TOKENS, TARGETS, "attention")
