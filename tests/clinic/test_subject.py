"""What a probe may ask of a subject, and that it is put back."""

from types import MappingProxyType

import numpy as np
import pytest

from cllm_lab.clinic.subject import (
    keeps_state,
    listed,
    require_gradients,
    require_ids,
    require_logits,
    require_loss,
    require_subject,
    restored,
    rounding_unit,
)
from tests.clinic.subjects import Bigram, batch_for, bigram_batch, left_alone, trainer


class Plain:
    """A subject with one parameter and functions that do nothing."""

    def __init__(self, params):
        self.params = params

    loss = gradients = forward = step = lambda self, *ids: None


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_a_trainer_is_a_subject_that_keeps_its_state(table):
    subject = trainer(table)
    require_subject(subject)
    assert keeps_state(subject)
    assert not keeps_state(Bigram().subject(stateful=False))


def test_what_a_subject_lacks_is_named():
    with pytest.raises(TypeError, match=r"ndarray lacks params, loss, gradients, forward, step.*lab\.adapt"):
        require_subject(np.zeros(3))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([np.zeros(2)], TypeError, "params must be a mapping from names to arrays; got list"),
        ({}, ValueError, "params is empty"),
        ({3: np.zeros(2)}, TypeError, "names .str. as keys; got 3"),
        ({"w": [0.0]}, TypeError, r"params\['w'\] must be a NumPy array of floats; got list"),
        ({"w": np.zeros(2, int)}, TypeError, r"params\['w'\] must be .* got dtype int64"),
        ({"w": np.zeros((0, 2))}, ValueError, r"params\['w'\] is empty, shape \(0, 2\)"),
        ({"w": np.broadcast_to(1.0, 3)}, TypeError, r"params\['w'\] is read-only"),
    ],
)
def test_parameters_that_cannot_be_examined_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        require_subject(Plain(params))


def test_parameters_that_are_copies_are_refused():
    class Copies(Plain):
        params = property(
            lambda self: {"w": self.kept.copy()}, lambda self, kept: setattr(self, "kept", kept)
        )

    with pytest.raises(TypeError, match="two readings gave 'w' in two places"):
        require_subject(Copies(np.zeros(3)))


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (1.0, TypeError, r"must return \(loss, mapping of gradients\); got float"),
        ((1.0, [np.zeros(2)]), TypeError, "mapping as its second value; got list"),
        (("a", {}), TypeError, "a loss must be one real number; got str"),
        ((np.zeros(2), {}), TypeError, r"a loss must be one real number; got ndarray of shape \(2,\)"),
        ((1.0, {"v": np.zeros(2)}), ValueError, "names of params, w; missing: w; unknown: v"),
        ((1.0, {"w": [0.0, 0.0]}), TypeError, "gradient of 'w' must be a NumPy array of floats; got list"),
        ((1.0, {"w": np.zeros(3)}), ValueError, r"gradient of 'w' must have .* \(2,\); got \(3,\)"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(found, error, message):
    with pytest.raises(error, match=message):
        require_gradients({"w": np.zeros(2)}, found)


def test_a_loss_may_be_any_one_number():
    assert [require_loss(loss) for loss in (2, np.float32(0.5), np.array(3.0))] == [2.0, 0.5, 3.0]


def test_logits_and_ids_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="logits must be a NumPy array of floats; got dtype int64"):
        require_logits(np.zeros((1, 2, 3), int), (1, 2))
    for shape in ((1, 2), (2, 2, 3), (1, 3, 3), (1, 2, 0)):
        with pytest.raises(ValueError, match=r"B, T = \(1, 2\)"):
            require_logits(np.zeros(shape), (1, 2))
    with pytest.raises(TypeError, match="inputs must hold whole numbers"):
        require_ids("inputs", [[0.5]])
    with pytest.raises(ValueError, match=r"inputs must have shape \(batch, positions\).*\(2,\)"):
        require_ids("inputs", [1, 2])
    with pytest.raises(ValueError, match="inputs must be rows of equal length"):
        require_ids("inputs", [[1, 2], [3]])


def test_the_rounding_unit_is_that_of_the_coarsest_dtype():
    mixed = {"a": np.zeros(1), "b": np.zeros(1, np.float32)}
    assert rounding_unit(mixed) == np.finfo(np.float32).eps
    assert rounding_unit({"a": np.zeros(1)}) == np.finfo(np.float64).eps


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("table", ["reference", "fast"])
def test_a_trainer_is_put_back_bit_for_bit(table, raises):
    subject = trainer(table, "float32")
    before = left_alone(subject)
    history = subject.history.steps
    try:
        with restored(subject):
            subject.params.flat[:] = np.nan
            subject.params.flat[:] = 0.25
            subject.step(*batch_for(subject))
            subject.run(steps=7)
            assert left_alone(subject) != before
            if raises:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert raises
    assert left_alone(subject) == before
    assert subject.history.steps.equals(history)


@pytest.mark.parametrize("rebinds", [False, True])
def test_hand_written_code_is_put_back(rebinds):
    model = Bigram(rebinds=rebinds)
    model.step(*bigram_batch(1))
    before = model.bytes()
    arrays = dict(model.params)
    subject = model.subject()
    with restored(subject):
        subject.step(*bigram_batch())
    assert model.bytes() == before
    assert all(model.params[name] is arrays[name] for name in arrays)


def test_an_array_that_cannot_be_put_back_is_named():
    class Frozen(Plain):
        params = property(
            lambda self: MappingProxyType(self.kept), lambda self, kept: setattr(self, "kept", kept)
        )

    subject = Frozen({"w": np.zeros(3)})
    with pytest.raises(
        RuntimeError, match=r"params\['w'\] was float64 \(3,\) and has been replaced by float32"
    ):
        with restored(subject):
            subject.kept["w"] = np.zeros(3, np.float32)
    with pytest.raises(RuntimeError, match="replaced by nothing"):
        with restored(Frozen(kept := {"w": np.zeros(3)})):
            del kept["w"]


def test_without_state_only_the_parameters_come_back():
    model = Bigram()
    before = model.bytes()
    subject = model.subject(stateful=False)
    with restored(subject):
        subject.step(*bigram_batch())
    assert model.bytes()[0] == before[0]
    assert model.bytes()[1] != before[1]


def test_long_lists_are_cut():
    assert listed(("a", "b")) == "a, b"
    assert listed(tuple("abcdefgh")) == "a, b, c, d, e, f and 2 more"
