"""Losses with and without what comes later, against sound machines, leaking ones and a rule worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.token_by_token import token_by_token
from tests.clinic.subjects import HEALTHY, NO_MASK, batch_for, trainer

V = 5


class Peeking:
    """Gives the next token ``sure`` nats of logit where it stands in the window, and knows nothing elsewhere."""

    def __init__(self, sure: float) -> None:
        self.sure = sure

    def forward(self, inputs):
        logits = np.zeros((*inputs.shape, V))
        logits[:, :-1] = self.sure * np.eye(V)[inputs[:, 1:]]
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", ["reference", "fast"])
@pytest.mark.parametrize("choices", HEALTHY, ids=str)
def test_a_sound_machine_loses_nothing(choices, table, dtype) -> None:
    subject = trainer(table, dtype, **choices)
    inputs, targets = batch_for(subject)
    found = token_by_token(subject, inputs, targets)
    assert found.agree
    assert found.window_loss == pytest.approx(subject.loss(inputs, targets), rel=1e-5)
    assert "does not count" in repr(found)


def test_a_machine_without_a_mask_is_told() -> None:
    subject = trainer(swaps=NO_MASK)
    inputs, targets = batch_for(subject)
    found = token_by_token(subject, inputs, targets)
    assert not found.agree
    assert found.window_loss == pytest.approx(subject.loss(inputs, targets), rel=1e-12)
    # The last position has nothing after it.
    assert found.in_window[-1] == pytest.approx(found.one_by_one[-1], rel=1e-12)
    assert "will not be there" in repr(found)


def test_by_hand() -> None:
    tokens = np.array([[0, 1, 2, 3], [4, 3, 2, 1]])
    found = token_by_token(Peeking(50.0), tokens[:, :3], tokens[:, 1:])
    assert found.in_window == pytest.approx([0.0, 0.0, np.log(V)], abs=1e-12)
    assert found.one_by_one == pytest.approx([np.log(V)] * 3, rel=1e-15)
    assert found.window_loss == pytest.approx(np.log(V) / 3) and not found.agree
    assert repr(found).startswith("loss with the whole window in sight 0.54 nats, token by token 1.61 nats\n")


def test_one_bad_position_is_enough() -> None:
    class Once(Peeking):
        def forward(self, inputs):
            logits = np.zeros((*inputs.shape, V))
            logits[:, 0] = self.sure * (inputs.shape[1] > 1) * np.eye(V)[0]
            return SimpleNamespace(logits=logits)

    tokens = np.array([[0, 1, 2, 3]])
    assert not token_by_token(Once(1e-3), tokens[:, :3], tokens[:, 1:]).agree
    assert token_by_token(Once(0.0), tokens[:, :3], tokens[:, 1:]).agree


@pytest.mark.parametrize("fault", ["no-causal-mask", "softmax-wrong-axis"])
def test_leaks_of_the_catalogue(fault) -> None:
    subject = lab.faults.catalogue()[fault].broken()
    tokens = subject.corpus.tokens
    assert not token_by_token(subject, tokens[None, :32], tokens[None, 1:33]).agree


def test_bad_arguments_are_refused() -> None:
    subject, tokens = Peeking(1.0), np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"targets must have the shape of inputs, \(1, 3\); got \(1, 2\)"):
        token_by_token(subject, tokens, tokens[:, :2])
    with pytest.raises(
        ValueError, match="targets must lie in 0 to 4, the width of the logits; got ids from 0 to 5"
    ):
        token_by_token(subject, tokens, np.array([[0, 1, 5]]))
    with pytest.raises(ValueError, match="inputs must have shape"):
        token_by_token(subject, tokens[0], tokens[0])
    with pytest.raises(TypeError, match="targets must hold whole numbers"):
        token_by_token(subject, tokens, tokens * 1.0)
