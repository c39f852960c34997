"""Swapped parts, scheduled changes, and numbers that are not finite."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.model.config import ConfigError
from cllm_lab.model.parts import Part
from cllm_lab.training.changes import CHANGEABLE
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.optimizers import Optimizer, UpdateSizes
from cllm_lab.training.parts import backpropagation
from tests.training.machines import (
    STEPS_PER_EPOCH,
    TABLES,
    TEXT,
    Fault,
    a_batch,
    bits,
    make_model,
    make_trainer,
)


def faulty(slot, part, **settings):
    """A trainer with one slot swapped."""
    return make_trainer(faults=(Fault(f"faulty-{slot}", {slot: part}),), **settings)


# A fault acts, in each slot.


@pytest.mark.parametrize("table", TABLES)
def test_a_fault_in_a_slot_of_the_model(table):
    def doubled(x, branch, site):
        return x + 2 * branch

    def doubled_backward(dy, site):
        return dy, 2 * dy

    model = make_model(table)
    trainer = make_trainer(
        model, faults=(Fault("doubled", {"residual": Part("doubled", doubled, doubled_backward)}),)
    )
    batch = a_batch(trainer)
    assert trainer.loss(*batch) != model.loss(*batch)
    assert trainer.model.parts.residual.name == "doubled"
    assert model.swapped_slots() == ()
    assert trainer.step(*batch).loss == trainer.history[0].loss != model.loss(*batch)
    assert (trainer.params.flat != model.params.flat).any()


def negated(training_pass):
    grads = training_pass.backward()
    grads.flat *= -1.0
    return grads


def test_a_faulty_gradient_rule_is_followed():
    healthy, wrong = make_trainer(optimizer="sgd"), faulty("gradient_rule", negated, optimizer="sgd")
    batch = a_batch(healthy)
    start = healthy.params.flat.copy()
    assert (wrong.gradients(*batch)[1].flat == -healthy.gradients(*batch)[1].flat).all()
    healthy.step(*batch)
    wrong.step(*batch)
    np.testing.assert_allclose(wrong.params.flat - start, start - healthy.params.flat, rtol=0, atol=1e-7)
    assert wrong.loss(*batch) > healthy.loss(*batch)


def test_a_faulty_reported_loss_is_reported_everywhere_and_followed_nowhere():
    # By the reference, which makes the same pass for both, so that their bits can be compared.
    wrong = faulty("reported_loss", lambda loss, training_pass: loss / 10, model=make_model("reference"))
    healthy = make_trainer(make_model("reference"))
    found, true = wrong.run(epochs=1), healthy.run(epochs=1)
    assert found.losses == [loss / 10 for loss in true.losses]
    assert found.epoch_loss == [math.fsum(found.losses) / STEPS_PER_EPOCH]
    assert (wrong.params.flat == healthy.params.flat).all()
    batch = a_batch(wrong)
    assert wrong.loss(*batch) == wrong.gradients(*batch)[0] == healthy.loss(*batch) / 10
    assert wrong.step(*batch).loss == healthy.loss(*batch) / 10


def test_a_faulty_clipping():
    wrong = faulty("clipping", lambda norm, clip_norm: 0.0, optimizer="sgd")
    start = wrong.params.flat.copy()
    record = wrong.step(*a_batch(wrong))
    assert record.grad_norm > 0.0
    assert record.update_ratio == 0.0
    assert (wrong.params.flat == start).all()


def test_a_faulty_schedule():
    wrong = faulty("schedule", lambda step, config, total_steps: config.learning_rate * step)
    assert [r.learning_rate for r in wrong.run(steps=3)] == [0.01, 0.02, 0.03]


def test_a_faulty_optimizer_brings_its_own_moments():
    def update(params, grads, moments, learning_rate, step, gradient_scale, config):
        moments["count"] += 1.0
        params -= 1.0
        return UpdateSizes(4.0, 1.0)

    wrong = faulty("optimizer", Optimizer("odd", ("count",), update))
    start = wrong.params.flat.copy()
    assert wrong.run(steps=2)[1].update_ratio == 2.0
    assert list(wrong.moments) == ["count"]
    assert (wrong.moments["count"].flat == 2.0).all()
    np.testing.assert_allclose(wrong.params.flat, start - 2.0, rtol=1e-6)
    assert set(wrong.state().arrays) == {"params", "moments.count"}


def without_the_short_window(tokens, batch_size, sequence_length, shuffle, seed, epoch):
    batches = epoch_batches(tokens, batch_size, sequence_length, shuffle, seed, epoch)
    return [batch for batch in batches if batch.inputs.shape[1] == sequence_length]


def test_faulty_batches_make_epochs_of_their_own_length():
    wrong = faulty("batches", without_the_short_window)
    assert wrong.steps_per_epoch == STEPS_PER_EPOCH - 1
    history = wrong.run(epochs=2)
    assert [r.epoch for r in history] == [1] * 4 + [2] * 4
    assert {r.tokens for r in history} == {16, 8}
    assert len(history.epoch_loss) == 2
    assert faulty("batches", without_the_short_window, accumulate=3).steps_per_epoch == 2


def only_the_embedding(specs):
    return tuple(spec.name for spec in specs if spec.group == "embedding")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_tensors_that_are_not_trainable_stay_and_the_rows_say_so(table, kind):
    wrong = faulty("trainable", only_the_embedding, optimizer=kind, model=make_model(table, "float64"))
    batch = a_batch(wrong)
    rows = wrong.tensor_rows(*batch)
    before = wrong.params.copy()
    record = wrong.step(*batch)
    for row in rows:
        moved = float(np.linalg.norm(wrong.params[row.name] - before[row.name]))
        assert row.gradient > 0.0
        assert row.trainable == (row.group == "embedding")
        assert row.update == pytest.approx(moved, rel=1e-12)
        assert (row.update > 0.0) == row.trainable
    embedding = before.group("embedding")
    moved = float(np.linalg.norm(wrong.params.group("embedding") - embedding))
    assert record.update_ratio == pytest.approx(moved / np.linalg.norm(embedding), rel=1e-7)
    for moment in wrong.moments.values():
        assert not moment.flat[moment.group_slices["attention"].start :].any()


@pytest.mark.parametrize("chosen", [(), ("layers.0.b_out", "layers.0.w_ff1", "ln_final.beta")])
def test_any_choice_of_tensors_can_be_trainable(chosen):
    wrong = faulty("trainable", lambda specs: chosen)
    before = wrong.params.copy()
    record = wrong.step(*a_batch(wrong))
    assert tuple(name for name in before if (before[name] != wrong.params[name]).any()) == chosen
    assert (record.update_ratio > 0.0) == bool(chosen)


def test_parameters_of_zero_that_move_have_moved_infinitely():
    trainer = faulty("trainable", lambda specs: ("layers.0.b_out",))
    batch = a_batch(trainer)
    assert trainer.step(*batch).update_ratio == math.inf
    assert math.isfinite(trainer.step(*batch).update_ratio)


def test_faults_in_different_slots_act_together():
    faults = (
        Fault("a", {"schedule": lambda step, config, total_steps: 0.5}),
        Fault("b", {"reported_loss": lambda loss, training_pass: 7.0}),
    )
    trainer = make_trainer(faults=faults)
    record = trainer.step(*a_batch(trainer))
    assert (record.learning_rate, record.loss) == (0.5, 7.0)
    assert trainer.faults == faults


# Faults that come and go while a machine trains.

NEGATED = Fault("negated", {"gradient_rule": negated})
SKIPPED = Fault(
    "skipped", {"residual": Part("skipped", lambda x, b, site: x + 0.0 * b, lambda dy, site: (dy, 0.0 * dy))}
)


def test_a_planned_fault_acts_from_its_step_to_the_step_that_takes_it_out():
    planned, live = make_trainer(make_model("reference")), make_trainer(make_model("reference"))
    planned.at(3, faults=(NEGATED, SKIPPED))
    planned.at(5, faults=(), learning_rate=0.5)
    planned.run(steps=6)
    weights = []
    for faults in ((), (NEGATED, SKIPPED), ()):
        live.at(live.steps_done + 1, faults=faults)
        if len(weights) == 2:
            live.at(live.steps_done + 1, learning_rate=0.5)
        live.run(steps=2)
        weights.append(live.params.flat.copy())
    assert planned.faults == live.faults == ()
    assert bits(planned) == bits(live)
    other = make_trainer(make_model("reference"))
    other.run(steps=6)
    assert not np.array_equal(other.params.flat, planned.params.flat)


def test_a_planned_fault_changes_the_machine_that_was_given_and_not_the_last_one():
    trainer = make_trainer(make_model("reference"), faults=(SKIPPED,))
    trainer.at(2, faults=(NEGATED,))
    trainer.run(steps=2)
    assert trainer.model.swapped_slots() == ()
    assert trainer.faults == (NEGATED,)


def test_moments_stay_when_faults_change():
    trainer = make_trainer(optimizer="adam")
    trainer.run(steps=2)
    kept = {name: moment.flat.copy() for name, moment in trainer.moments.items()}
    trainer.at(3, faults=(Fault("still", {"trainable": lambda specs: ()}),))
    trainer.run(steps=1)
    assert all((trainer.moments[name].flat == kept[name]).all() for name in kept)


def all_zero(params, config, seed):
    params.flat[:] = 0.0
    return ""


ZEROS = Fault("zeros", {"initialisation": all_zero})


@pytest.mark.parametrize("slot", ["initialisation", "stream", "batches"])
def test_a_fault_of_the_start_is_refused_in_mid_flight(slot):
    trainer = make_trainer()
    with pytest.raises(
        ValueError, match=rf"faults=\['late'\] change {slot}, which acts only when a run starts"
    ):
        trainer.at(2, faults=(Fault("late", {slot: all_zero}),))
    assert trainer.state().changes == {}


def test_another_initialisation_in_the_place_of_one_is_late_too():
    trainer = make_trainer(faults=(ZEROS,))
    trainer.at(2, faults=(ZEROS, NEGATED))  # the same one may stay
    other = Fault("other", {"initialisation": lambda params, config, seed: ""})
    with pytest.raises(ValueError, match=r"faults=\['other'\] change initialisation"):
        trainer.at(3, faults=(other,))


def test_a_plan_is_held_against_the_plans_before_it():
    trainer = make_trainer(faults=(ZEROS,))
    trainer.at(3, faults=())
    with pytest.raises(ValueError, match=r"faults=\['zeros'\] change initialisation"):
        trainer.at(5, faults=(ZEROS,))


@pytest.mark.parametrize("table", TABLES)
def test_a_part_of_the_model_that_is_put_in_late_acts_in_its_first_step(table):
    trainer = make_trainer(make_model(table))
    trainer.run(steps=4)  # so that passes are kept
    trainer.at(5, faults=(SKIPPED,))
    weights = trainer.params.flat.copy()
    record = trainer.step(*a_batch(trainer))
    faulty_model = trainer.model.copy()
    faulty_model.params.flat[:] = weights
    assert faulty_model.swapped_slots() == ("residual",)
    assert record.loss == pytest.approx(faulty_model.loss(*a_batch(trainer)), rel=1e-6)
    sound = make_model(table)
    sound.params.flat[:] = weights
    assert record.loss != pytest.approx(sound.loss(*a_batch(trainer)), rel=1e-3)


def test_taking_out_the_fault_of_the_initial_weights_leaves_the_weights():
    trainer = make_trainer(faults=(ZEROS,))
    trainer.at(2, faults=())
    assert len(set(trainer.run(steps=3).losses)) == 1
    assert not trainer.params.flat.any()


def test_putting_a_state_back_puts_its_faults_back():
    trainer = make_trainer(make_model("reference"), faults=(SKIPPED,))
    before = trainer.state()
    trainer.at(1, faults=(NEGATED,))
    trainer.run(steps=1)
    trainer.load_state(before)
    assert trainer.faults == (SKIPPED,)
    assert trainer.model.swapped_slots() == ("residual",)
    assert trainer.parts.gradient_rule is backpropagation


# Scheduled changes.


def test_a_change_is_in_force_from_its_step_on():
    trainer = make_trainer()
    trainer.at(4, learning_rate=0.25)
    trainer.at(6, learning_rate=0.5, clip_norm=None)
    assert [r.learning_rate for r in trainer.run(steps=7)] == [0.01] * 3 + [0.25] * 2 + [0.5] * 2
    assert trainer.config == replace(make_trainer().config, learning_rate=0.5, clip_norm=None)
    assert trainer.state().changes == {}


@pytest.mark.parametrize("settings", [{"learning_rate": 0.3}, {"clip_norm": 1e-3}, {"clip_norm": None}])
def test_a_scheduled_change_is_the_live_change(settings):
    planned, live, untouched = make_trainer(), make_trainer(), make_trainer()
    planned.at(6, **settings)
    planned.run(steps=10)
    live.run(steps=5)
    live.at(6, **settings)
    live.run(steps=5)
    untouched.run(steps=10)
    assert bits(planned) == bits(live)
    assert bits(planned)["arrays"] != bits(untouched)["arrays"]


def test_a_change_of_the_schedule_and_of_its_horizon():
    trainer = make_trainer()
    trainer.at(3, schedule="step", total_steps=8)
    trainer.at(8, min_learning_rate=0.005)
    rates = [r.learning_rate for r in trainer.run(steps=9)]
    assert rates == [0.01] * 4 + [0.001] * 2 + [0.0001] + [0.005] * 2


def test_changes_of_one_step_are_joined_and_the_later_word_counts():
    trainer = make_trainer()
    trainer.at(2, learning_rate=0.3, clip_norm=9.0)
    trainer.at(2, learning_rate=0.4)
    assert trainer.state().changes == {2: {"learning_rate": 0.4, "clip_norm": 9.0}}
    trainer.run(steps=2)
    assert (trainer.config.learning_rate, trainer.config.clip_norm) == (0.4, 9.0)


def test_a_step_that_is_past_is_refused():
    trainer = make_trainer()
    trainer.run(steps=3)
    with pytest.raises(ValueError, match=r"^step=3 is past: 3 steps are done, the next is 4$"):
        trainer.at(3, learning_rate=0.1)
    trainer.at(4, learning_rate=0.1)
    assert trainer.run(steps=1)[-1].learning_rate == 0.1


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3", None])
def test_a_step_is_a_whole_number_from_1(wrong):
    with pytest.raises(ValueError, match="step must be a whole number of at least 1"):
        make_trainer().at(wrong, learning_rate=0.1)


FIXED = sorted({field.name for field in dataclasses.fields(make_trainer().config)} - set(CHANGEABLE))


@pytest.mark.parametrize("name", [*FIXED, "no_such_setting"])
def test_what_cannot_change_is_refused_with_what_can(name):
    with pytest.raises(ValueError) as caught:
        make_trainer().at(2, **{name: 1})
    assert (
        str(caught.value) == f"cannot change {name}; what can change is {', '.join((*CHANGEABLE, 'faults'))}"
    )


def test_a_change_of_nothing_is_refused():
    with pytest.raises(ValueError, match="cannot change nothing; what can change is"):
        make_trainer().at(2)


def test_a_wrong_value_is_refused_when_it_is_planned():
    trainer = make_trainer()
    with pytest.raises(ConfigError, match="learning_rate must be a finite number of at least 0; got -1"):
        trainer.at(2, learning_rate=-1)
    assert trainer.state().changes == {}


def test_a_change_must_work_with_those_before_and_after_it():
    trainer = make_trainer(learning_rate=0.01)
    trainer.at(5, learning_rate=0.1)
    trainer.at(9, min_learning_rate=0.05)  # above today's peak, below that of its own time
    with pytest.raises(ConfigError, match=r"min_learning_rate=0\.05 is above learning_rate=0\.02"):
        trainer.at(7, learning_rate=0.02)
    with pytest.raises(ConfigError, match=r"min_learning_rate=0\.05 is above learning_rate=0\.01"):
        trainer.at(3, min_learning_rate=0.05)
    assert trainer.state().changes == {5: {"learning_rate": 0.1}, 9: {"min_learning_rate": 0.05}}
    trainer.run(steps=9)


# Numbers that are not finite.


def assert_nothing_moved(trainer, before):
    after = bits(trainer)
    assert {**after, "changes": None, "config": None} == {**before, "changes": None, "config": None}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}], ids=["plain", "accumulated"])
@pytest.mark.parametrize(
    ("weight", "first"),
    [
        ("position_embedding", "positions"),
        ("layers.0.ln1.gamma", "layers.0.ln1"),
        ("layers.0.w_qkv", "layers.0.attention.qkv"),
        ("layers.1.w_out", "layers.1.attention"),
        ("layers.1.w_ff1", "layers.1.ff.pre"),
        ("layers.1.b_ff2", "layers.1.ff"),
        ("ln_final.beta", "final_hidden"),
    ],
)
def test_a_nan_in_a_weight_is_found_where_it_first_shows(table, settings, weight, first):
    trainer = make_trainer(make_model(table, n_layers=2), **settings)
    trainer.run(steps=2)
    trainer.params[weight].flat[0] = np.nan
    before = bits(trainer)
    with pytest.raises(NonFiniteError) as caught:
        trainer.run(steps=4)
    assert (caught.value.step, caught.value.tensor) == (3, first)
    assert f"step 3: the first activation that is not finite is {first} (" in str(caught.value)
    assert_nothing_moved(trainer, {**before, "total_steps": 6})
    assert trainer.steps_done == len(trainer.history) == 2


def test_a_failed_step_can_be_tried_again():
    trainer, healthy = make_trainer(), make_trainer()
    for each in (trainer, healthy):
        each.run(steps=2)
    kept = trainer.params["ln_final.beta"][0]
    trainer.params["ln_final.beta"][0] = np.inf
    with pytest.raises(NonFiniteError):
        next(trainer.steps())
    trainer.params["ln_final.beta"][0] = kept
    trainer.run(steps=5)
    healthy.run(steps=5)
    assert bits(trainer) == bits(healthy)


def poisoned(name, value, from_step=1, calls_per_step=1):
    """A gradient rule that puts a value into a tensor's gradient from some step on."""
    calls = 0

    def rule(training_pass):
        nonlocal calls
        grads = backpropagation(training_pass)
        if calls >= (from_step - 1) * calls_per_step:
            grads[name].flat[0] = value
        calls += 1
        return grads

    return rule


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_is_named(table, accumulate, value, clip_norm):
    rule = poisoned("layers.0.w_ff1", value, from_step=3, calls_per_step=accumulate)
    trainer = faulty(
        "gradient_rule", rule, model=make_model(table), clip_norm=clip_norm, accumulate=accumulate
    )
    trainer.run(steps=2)
    before = bits(trainer)
    with pytest.raises(NonFiniteError) as caught:
        trainer.run(steps=1)
    assert (caught.value.step, caught.value.tensor) == (3, "layers.0.w_ff1")
    assert "the first gradient that is not finite is layers.0.w_ff1" in str(caught.value)
    assert_nothing_moved(trainer, {**before, "total_steps": 3})


def test_a_loss_that_is_not_finite_is_named():
    trainer = faulty("reported_loss", lambda loss, training_pass: math.inf)
    before = bits(trainer)
    for attempt in (lambda: trainer.step(*a_batch(trainer)), lambda: trainer.tensor_rows(*a_batch(trainer))):
        with pytest.raises(NonFiniteError) as caught:
            attempt()
        assert caught.value.tensor == "loss"
        assert bits(trainer) == before


def test_rows_that_cannot_be_told_leave_what_was_planned():
    trainer = faulty("reported_loss", lambda loss, training_pass: math.nan)
    trainer.at(1, learning_rate=0.5)
    before = bits(trainer)
    with pytest.raises(NonFiniteError):
        trainer.tensor_rows(*a_batch(trainer))
    assert bits(trainer) == before
    assert before["changes"] == {1: {"learning_rate": 0.5}}


@pytest.mark.parametrize("table", TABLES)
def test_after_an_infinite_learning_rate_the_next_step_names_what_broke(table):
    trainer = faulty("schedule", lambda step, config, total_steps: math.inf, model=make_model(table))
    record = trainer.step(*a_batch(trainer))
    assert not math.isfinite(record.update_ratio)
    before = bits(trainer)
    with pytest.raises(NonFiniteError) as caught:
        trainer.step(*a_batch(trainer))
    assert (caught.value.step, caught.value.tensor) == (2, "embedding")
    assert bits(trainer) == before


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rate", [1e10, 1e20, 1e38])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw"])
def test_a_huge_learning_rate_ends_in_an_error_and_not_in_silence(table, kind, rate):
    trainer = make_trainer(make_model(table), optimizer=kind, learning_rate=rate, clip_norm=None)
    with pytest.raises(NonFiniteError) as caught:
        trainer.run(steps=60)
    assert caught.value.step == trainer.steps_done + 1
    assert all(math.isfinite(loss) for loss in trainer.history.losses)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_whose_square_overflows_is_measured_and_clipped(dtype):
    huge = {"float32": 1e30, "float64": 1e250}[dtype]
    trainer = faulty(
        "gradient_rule", poisoned("layers.0.b_ff1", huge), model=make_model(dtype=dtype), optimizer="sgd"
    )
    start = trainer.params.flat.copy()
    record = trainer.step(*a_batch(trainer))
    assert record.grad_norm == pytest.approx(huge, rel=1e-6)
    assert np.linalg.norm((trainer.params.flat - start).astype(np.float64)) == pytest.approx(0.01, rel=1e-3)


def test_a_vanishing_gradient_is_not_taken_for_none():
    def tiny(training_pass):
        grads = backpropagation(training_pass)
        grads.flat[:] = 0.0
        grads["layers.0.b_ff1"][0] = 1e-30
        return grads

    record = faulty("gradient_rule", tiny).step([[5, 6]], [[6, 7]])
    assert record.grad_norm == record.grad_norm_ff == pytest.approx(1e-30, rel=1e-6)
    assert record.grad_norm_attention == 0.0


def test_a_vocabulary_larger_than_the_corpus_trains():
    model = make_model(vocab_size=TEXT.vocab_size + 30)
    history = make_trainer(model).run(epochs=3)
    assert history[0].loss == pytest.approx(math.log(TEXT.vocab_size + 30), rel=0.02)
    assert history.epoch_loss[2] < history.epoch_loss[0]
