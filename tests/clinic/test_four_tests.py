"""Document 000's four tests on sound machines, on planted faults and on hand-written code."""

import math

import numpy as np
import pytest

from cllm_lab.clinic.four_tests import (
    gradient_magnitude,
    loss_sensitivity,
    proper_attention,
    weight_updates,
)
from cllm_lab.model.parts import PartEdit
from cllm_lab.training.diagnostics import NonFiniteError
from tests.clinic.subjects import (
    ATTENTION_TENSORS,
    CONSTANT_LOSS,
    DOUBLED_ATTENTION,
    DROPPED,
    EMBEDDINGS_ONLY,
    HEALTHY,
    NAN_IN_LAST_ROW,
    NO_MASK,
    WRONG_SIGN,
    Bigram,
    batch_for,
    bigram_batch,
    left_alone,
    small_vocabulary,
    trainer,
)

PROBES = {
    "gradient_magnitude": gradient_magnitude,
    "weight_updates": weight_updates,
    "loss_sensitivity": loss_sensitivity,
    "proper_attention": lambda subject, inputs, targets: proper_attention(subject, inputs),
}
PROBE = pytest.mark.parametrize("probe", PROBES.values(), ids=list(PROBES))


def by_name(found):
    return {tensor.name: tensor for tensor in found.tensors}


@PROBE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", HEALTHY, ids=str)
def test_a_healthy_machine_passes_and_is_left_alone(probe, settings, dtype):
    for seed in range(3):
        subject = trainer(dtype=dtype, seed=seed, **settings)
        before = left_alone(subject)
        assert probe(subject, *batch_for(subject, seed)).passed
        assert left_alone(subject) == before


@PROBE
def test_fast_parts_and_a_tiny_vocabulary_pass(probe):
    for subject in (trainer("fast", "float32"), small_vocabulary(), small_vocabulary(1, "float32")):
        assert probe(subject, *batch_for(subject)).passed


@PROBE
def test_a_probe_in_which_something_raises_leaves_the_subject_alone(probe):
    calls = []
    healthy = trainer().model.parts.output.forward

    def failing(x, site):
        calls.append(1)
        if len(calls) > 2:
            raise ZeroDivisionError
        return healthy(x, site)

    subject = trainer(swaps={"output": PartEdit("failing", forward=failing)})
    before = left_alone(subject)
    with pytest.raises(ZeroDivisionError):
        for _ in range(3):
            probe(subject, *batch_for(subject))
    assert left_alone(subject) == before


@PROBE
def test_what_is_no_subject_is_refused(probe):
    with pytest.raises(TypeError, match="subject must have params"):
        probe("subject", *bigram_batch())


# Test 1.


def test_the_magnitudes_are_those_of_the_gradients():
    subject = trainer()
    batch = batch_for(subject)
    _, grads = subject.gradients(*batch)
    found = by_name(gradient_magnitude(subject, *batch))
    assert list(found) == list(subject.params)
    for name, gradient in grads.items():
        tensor = found[name]
        assert tensor.largest == np.abs(gradient).max()
        assert tensor.mean == pytest.approx(np.abs(gradient).mean(), rel=1e-12)
        assert tensor.zeros == np.mean(gradient == 0.0)
        assert (tensor.size, tensor.rows, tensor.not_finite) == (gradient.size, len(gradient), 0)
    untouched = set(range(subject.model.config.vocab_size)) - set(batch[0].ravel().tolist())
    untied = gradient_magnitude(trainer(tied=False), *batch)
    assert by_name(untied)["token_embedding"].zero_rows == len(untouched) > 0


def test_a_nan_in_the_last_row_is_counted_as_nan():
    subject = trainer(swaps=NAN_IN_LAST_ROW)
    found = gradient_magnitude(subject, *batch_for(subject))
    tensor = by_name(found)["token_embedding"]
    assert tensor.not_finite == 1
    assert math.isfinite(tensor.largest)
    assert tensor.band == "not finite"
    assert not tensor.reasonable
    assert found.not_finite == ("token_embedding",)
    assert not found.passed
    assert "not finite: 1 entries, in token_embedding" in repr(found)


def with_gradient(gradient):
    model = Bigram()
    subject = model.subject()
    _, grads = model.gradients(*bigram_batch())
    subject.gradients = lambda inputs, targets: (1.0, {**grads, "U": gradient})
    return by_name(gradient_magnitude(subject, *bigram_batch()))["U"], gradient_magnitude(
        subject, *bigram_batch()
    )


@pytest.mark.parametrize(
    ("value", "band", "reasonable"),
    [
        (0.0, "exactly 0", False),
        (1e-300, "vanishing", False),
        (0.9e-6, "vanishing", False),
        (1e-6, "between", False),
        (0.9e-4, "between", False),
        (1e-4, "proper", True),
        (1e-2, "proper", True),
        (0.05, "between", True),
        (0.1, "between", True),
        (0.11, "between", False),
        (1.0, "between", False),
        (1.1, "exploding", False),
        (math.inf, "not finite", False),
        (-math.nan, "not finite", False),
    ],
)
def test_bands_and_exact_zeros(value, band, reasonable):
    tensor, found = with_gradient(np.full((4, 7), value))
    assert (tensor.band, tensor.reasonable) == (band, reasonable)
    assert tensor.exactly_zero is (value == 0.0)
    assert ("U" in found.exactly_zero) is (value == 0.0)
    assert found.passed is (band not in ("exactly 0", "not finite"))
    assert ("exactly 0" in repr(found)) is (value == 0.0)


def test_a_dropped_gradient_is_named():
    subject = trainer(swaps=DROPPED)
    found = gradient_magnitude(subject, *batch_for(subject))
    assert found.exactly_zero == ("layers.0.w_qkv",)
    assert "exactly 0: 1 of 16: layers.0.w_qkv" in repr(found)


# Test 2.


def test_updates_are_those_of_the_step():
    subject, twin = trainer(), trainer()
    batch = batch_for(subject)
    found = by_name(weight_updates(subject, *batch))
    before = twin.params.copy()
    twin.step(*batch)
    for name, tensor in found.items():
        update = twin.params[name] - before[name]
        assert tensor.changed == np.count_nonzero(update)
        assert tensor.relative == pytest.approx(np.linalg.norm(update) / np.linalg.norm(before[name]))
        assert abs(update[tensor.place]) == np.abs(update).max()
        assert tensor.before == before[name][tensor.place]
        assert tensor.after == twin.params[name][tensor.place]


def test_loss_before_and_after():
    subject, twin = trainer(), trainer()
    batch = batch_for(subject)
    found = weight_updates(subject, *batch)
    assert found.loss_before == twin.loss(*batch)
    twin.step(*batch)
    assert found.loss_after == twin.loss(*batch) < found.loss_before
    wrong = trainer(swaps=WRONG_SIGN)
    found = weight_updates(wrong, *batch)
    assert found.loss_after > found.loss_before


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_tensors_that_are_left_out_are_frozen(table):
    subject = trainer(table, swaps=EMBEDDINGS_ONLY)
    found = weight_updates(subject, *batch_for(subject))
    frozen = {spec.name for spec in subject.params.specs if spec.group != "embedding"}
    assert set(found.frozen) == set(found.unchanged) == frozen
    assert not found.passed
    assert "one step changed 2 of 16 tensors" in repr(found)
    assert "unchanged although the gradient is not 0: layers.0.w_qkv" in repr(found)


def test_tensors_without_a_gradient_are_not_called_frozen():
    subject = trainer(swaps=DOUBLED_ATTENTION)
    found = weight_updates(subject, *batch_for(subject))
    assert set(found.unchanged) == ATTENTION_TENSORS
    assert found.frozen == ()
    assert "with a gradient of exactly 0: layers.0.w_qkv" in repr(found)


def test_a_change_of_one_bit_is_a_change():
    model = Bigram()
    model.params["U"][...] = 0.0
    subject = model.subject()
    subject.step = lambda inputs, targets: model.params["U"].__setitem__((3, 6), -0.0)
    found = by_name(weight_updates(subject, *bigram_batch()))
    assert (found["U"].changed, found["E"].changed) == (1, 0)
    assert found["U"].relative == 0.0


def test_an_update_of_a_tensor_of_zeros():
    model = Bigram()
    model.params["U"][...] = 0.0
    assert by_name(weight_updates(model.subject(), *bigram_batch()))["U"].relative == math.inf


def test_an_update_to_nan_is_seen():
    model = Bigram()
    subject = model.subject()
    subject.step = lambda inputs, targets: model.params["U"].__setitem__((1, 2), np.nan)
    found = by_name(weight_updates(subject, *bigram_batch()))["U"]
    assert found.changed == 1
    assert found.place == (1, 2)
    assert math.isnan(found.after)
    assert not np.isnan(model.params["U"]).any()


def test_without_state_it_says_what_stays_changed():
    model = Bigram()
    before = model.bytes()
    found = weight_updates(model.subject(stateful=False), *bigram_batch())
    assert "no state and load_state" in found.left_changed
    assert found.left_changed in repr(found)
    assert model.bytes()[0] == before[0]
    assert model.bytes()[1] != before[1]
    model = Bigram()
    before = model.bytes()
    assert weight_updates(model.subject(), *bigram_batch()).left_changed == ""
    assert model.bytes() == before


def test_a_step_that_raises_leaves_all_as_it_was():
    subject = trainer(swaps=NAN_IN_LAST_ROW)
    before = left_alone(subject)
    with pytest.raises(NonFiniteError, match="token_embedding"):
        weight_updates(subject, *batch_for(subject))
    assert left_alone(subject) == before


# Test 3.


def test_a_loss_that_ignores_the_model_is_moved_by_nothing():
    subject = trainer(swaps=CONSTANT_LOSS)
    found = loss_sensitivity(subject, *batch_for(subject))
    assert set(found.unmoved) == set(subject.params)
    assert "no tensor changes the loss: it does not depend on the model" in repr(found)
    assert "not by a bit: 16 of 16" in repr(found)
    assert found.together is False


def test_zero_weights_hide_each_other_and_are_told_from_a_loss_that_ignores_the_model():
    subject = trainer()
    assert loss_sensitivity(subject, *batch_for(subject)).together is None
    subject.params.flat[:] = 0.0
    before = left_alone(subject)
    found = loss_sensitivity(subject, *batch_for(subject))
    assert set(found.unmoved) == set(subject.params)
    assert found.together is True
    assert "no tensor alone changes the loss; all together do" in repr(found)
    assert left_alone(subject) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_that_are_bypassed_do_not_move_it(dtype):
    for seed in range(3):
        subject = trainer(dtype=dtype, swaps=DOUBLED_ATTENTION)
        found = loss_sensitivity(subject, *batch_for(subject), seed=seed)
        assert set(found.unmoved) == ATTENTION_TENSORS
        assert all(by_name(found)[name].change == 0.0 for name in ATTENTION_TENSORS)


def test_a_change_within_rounding_is_no_change():
    def subject_with(share):
        model = Bigram("float32")
        subject = model.subject()
        home = model.params["E"].copy()
        subject.loss = lambda inputs, targets: 2.0 + share * (not np.array_equal(model.params["E"], home))
        return subject

    unit = np.finfo(np.float32).eps
    assert by_name(loss_sensitivity(subject_with(6.0 * unit), *bigram_batch()))["E"].moved is False
    assert by_name(loss_sensitivity(subject_with(10.0 * unit), *bigram_batch()))["E"].moved is True
    assert by_name(loss_sensitivity(subject_with(math.nan), *bigram_batch()))["E"].moved is True


def test_a_loss_that_never_repeats_moves_nothing_by_itself():
    model = Bigram()
    subject = model.subject()
    values = iter([1.0, 1.1] + [1.0, 1.2] * 8)
    subject.loss = lambda inputs, targets: next(values)
    assert loss_sensitivity(subject, *bigram_batch()).unmoved == ("E", "U")


def test_the_same_seed_perturbs_alike():
    subject = trainer()
    batch = batch_for(subject)
    first, again, other = (loss_sensitivity(subject, *batch, seed=seed).tensors for seed in (3, 3, 4))
    assert first == again
    assert all(a.change != b.change for a, b in zip(first, other, strict=True))
    smaller = loss_sensitivity(subject, *batch, seed=3, size=1e-3).tensors
    assert all(abs(a.change) < abs(b.change) for a, b in zip(smaller, first, strict=True))


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_sizes_that_cannot_work_are_refused(size):
    with pytest.raises(ValueError, match="size must be finite and above 0"):
        loss_sensitivity(Bigram().subject(), *bigram_batch(), size=size)


def test_seeds_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="seed"):
        loss_sensitivity(Bigram().subject(), *bigram_batch(), seed=-1)


# Test 4.


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_nothing_attends_where_attention_doubles_its_input(table):
    subject = trainer(table, "float32", DOUBLED_ATTENTION)
    found = proper_attention(subject, batch_for(subject)[0])
    assert (found.own, found.earlier, found.later, found.order_matters) == (8, 0, 0, False)
    assert not found.passed
    assert "no logit depends on an earlier token: nothing attends" in repr(found)


@pytest.mark.parametrize("table", ["reference", "fast"])
def test_a_machine_that_sees_the_future(table):
    subject = trainer(table, "float32", NO_MASK)
    found = proper_attention(subject, batch_for(subject)[0])
    assert (found.own, found.earlier, found.later) == (8, 28, 28)
    assert not found.passed
    assert "logits depend on later tokens" in repr(found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_order_matters_with_positions_and_not_without(dtype):
    for seed in range(3):
        subject = trainer(dtype=dtype, seed=seed)
        inputs, _ = batch_for(subject, seed)
        assert proper_attention(subject, inputs).order_matters is True
        assert proper_attention(subject, np.zeros_like(inputs)).order_matters is True
        subject = trainer(dtype=dtype, seed=seed, positions="none")
        assert proper_attention(subject, inputs).order_matters is False
    assert proper_attention(subject, inputs[:, :2]).order_matters is None


def test_one_position_tells_nothing():
    subject = trainer()
    found = proper_attention(subject, [[1]])
    assert not found.passed
    assert "give longer windows" in repr(found)


def test_every_position_must_look_back():
    subject = trainer()
    found = proper_attention(subject, batch_for(subject)[0])
    broken = found.matrix.copy()
    broken[5, :5] = 0.0
    assert found.passed
    assert not type(found)(broken, True).passed
    broken[5, 0] = 1.0
    assert type(found)(broken, True).passed
