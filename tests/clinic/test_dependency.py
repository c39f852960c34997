"""The dependency matrix against one exchange at a time, and on subjects that depend on what they should not."""

from types import SimpleNamespace

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.dependency import dependency_matrix
from tests.clinic.subjects import (
    DOUBLED_ATTENTION,
    HEALTHY,
    NO_MASK,
    Bigram,
    batch_for,
    bigram_batch,
    left_alone,
    small_vocabulary,
    trainer,
)

V = 5


class Rule:
    """A subject that has no more than a forward pass: logits made from one-hot tokens by a function."""

    def __init__(self, rule, dtype="float64"):
        self.rule = rule
        self.dtype = dtype

    def forward(self, inputs):
        return SimpleNamespace(logits=self.rule(np.eye(V, dtype=self.dtype)[inputs]))


def test_against_one_exchange_at_a_time():
    subject = trainer()
    windows, _ = batch_for(subject)
    size = subject.model.config.vocab_size
    found = dependency_matrix(subject, windows)
    assert found.shape == (8, 8)
    for j in range(8):
        changed = windows.copy()
        changed[:, j] = (changed[:, j] + 1) % size
        moves = np.abs(subject.forward(changed).logits - subject.forward(windows).logits).max(axis=(0, 2))
        assert np.array_equal(found[:, j], moves)
        assert np.all(moves[:j] == 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", HEALTHY, ids=str)
def test_a_healthy_machine_depends_on_everything_before_and_nothing_after(settings, dtype):
    for seed in range(3):
        subject = trainer(dtype=dtype, seed=seed, **settings)
        found = dependency_matrix(subject, batch_for(subject, seed)[0])
        assert np.array_equal(found > 0.0, np.tri(8, dtype=bool))


def test_fast_parts_and_a_tiny_vocabulary():
    subject = trainer("fast", "float32")
    assert np.array_equal(dependency_matrix(subject, batch_for(subject)[0]) > 0.0, np.tri(8, dtype=bool))
    subject = small_vocabulary()
    assert np.array_equal(dependency_matrix(subject, batch_for(subject)[0]) > 0.0, np.tri(8, dtype=bool))


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_broken_machines(table):
    subject = trainer(table, "float32", DOUBLED_ATTENTION)
    assert np.array_equal(dependency_matrix(subject, batch_for(subject)[0]) > 0.0, np.eye(8, dtype=bool))
    subject = trainer(table, "float32", NO_MASK)
    assert np.all(dependency_matrix(subject, batch_for(subject)[0]) > 0.0)


def test_a_hand_written_bigram_depends_on_the_present_token_alone():
    found = dependency_matrix(Bigram("float32").subject(), bigram_batch()[0])
    assert np.array_equal(found > 0.0, np.eye(5, dtype=bool))


def test_a_window_alone_and_windows_together():
    subject = trainer()
    windows, _ = batch_for(subject)
    alone = [dependency_matrix(subject, window) for window in windows]
    np.testing.assert_allclose(dependency_matrix(subject, windows), np.maximum(*alone), rtol=1e-9)


def test_a_dependence_that_the_next_id_does_not_show_is_found_with_another():
    even = Rule(lambda x: np.cumsum(x[..., [0, 1]].sum(-1, keepdims=True), axis=1) * np.ones(V))
    # Ids 0 and 1 count alike, so exchanging 0 for 1 moves nothing.
    assert np.array_equal(dependency_matrix(even, [0, 0, 0]) > 0.0, np.tri(3, dtype=bool))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("units", "seen"), [(16, False), (256, True)])
def test_moves_the_size_of_rounding_are_none(units, seen, dtype):
    def noisy(x):
        logits = x.copy()
        logits[:, 0] += units * np.finfo(dtype).eps * x[:, 1]
        return logits

    assert (dependency_matrix(Rule(noisy, dtype), [1, 2])[0, 1] > 0.0) is np.bool_(seen)


def test_a_logit_that_is_not_finite_has_moved():
    def bursting(x):
        logits = x.copy()
        logits[:, 1, 0] = np.where(x[:, 0, 3] > 0.0, np.nan, logits[:, 1, 0])
        return logits

    found = dependency_matrix(Rule(bursting), [2, 1])
    assert found[1, 0] == np.inf
    assert found[0, 1] == 0.0


def test_a_machine_of_zeros_depends_on_nothing():
    subject = trainer(init="zeros", swaps={"trainable": lambda specs: ()})
    assert not dependency_matrix(subject, batch_for(subject)[0]).any()


@pytest.mark.parametrize(
    ("inputs", "error"), [([[0.5, 1.0]], TypeError), ([], (TypeError, ValueError)), ([[[1]]], ValueError)]
)
def test_inputs_that_are_no_windows_are_refused(inputs, error):
    with pytest.raises(error, match="inputs must"):
        dependency_matrix(Rule(lambda x: x), inputs)


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="logits must have shape"):
        dependency_matrix(Rule(lambda x: x[:, -1]), [1, 2])


def test_nothing_is_changed():
    subject = trainer()
    before = left_alone(subject)
    dependency_matrix(subject, batch_for(subject)[0])
    assert left_alone(subject) == before


def test_the_pictures_measure_with_it():
    model = trainer().model
    window = batch_for(trainer())[0][0]
    assert np.array_equal(lab.dependency(model, window), lab.dependency_matrix(model, window))
