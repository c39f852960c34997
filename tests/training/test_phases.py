"""A step by phases is the step, and says what each phase produced."""

import itertools
import math

import numpy as np
import pytest

from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.phases import PHASES
from tests.model.configurations import CASES
from tests.training.machines import TABLES, TEXT, Fault, bits, make_model, make_trainer


def take(trainer, n_steps):
    for _ in itertools.islice(trainer.steps(), n_steps):
        pass


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"validation_fraction": 0.3}], ids=str)
@pytest.mark.parametrize("table", TABLES)
def test_steps_by_phases_are_the_steps_of_a_run_bit_for_bit(table, settings):
    model = make_model(table, dropout=0.1)
    by_phases, run = (make_trainer(model, **settings) for _ in range(2))
    take(run, 7)
    for _ in range(7):
        for _ in by_phases.phases():
            pass
    assert bits(by_phases) == bits(run)


def test_the_compiled_pass_too():
    by_phases, run = make_trainer(), make_trainer()
    take(run, 3)
    for _ in range(3):
        list(by_phases.phases())
    assert bits(by_phases) == bits(run)


def test_each_batch_has_its_phases_and_the_update_is_the_last():
    trainer = make_trainer(accumulate=2)
    found = list(trainer.phases())
    assert [phase.name for phase in found] == [*PHASES[:3], *PHASES[:3], PHASES[3]]
    assert {phase.step for phase in found} == {1}


def test_nothing_is_updated_before_the_last_phase_was_asked_for():
    trainer = make_trainer()
    before = trainer.params.flat.copy()
    under_way = trainer.phases()
    for name in PHASES[:3]:
        assert next(under_way).name == name
        assert (trainer.params.flat == before).all() and trainer.steps_done == 0
    assert next(under_way).name == "update"
    assert (trainer.params.flat != before).any() and trainer.steps_done == 1


def test_a_step_that_was_left_is_begun_again():
    left, whole = make_trainer(), make_trainer()
    for trainer in (left, whole):
        trainer.at(1, learning_rate=0.5)
    next(left.phases())
    left.run(steps=2, progress=False)
    whole.run(steps=2, progress=False)
    assert bits(left) == bits(whole)


def test_what_the_phases_produced():
    trainer = make_trainer()
    batch = trainer._next_batches()[0]
    loss, grads = trainer.gradients(batch.inputs, batch.targets)
    logits = trainer.forward(batch.inputs).logits
    said = {phase.name: phase.produced for phase in trainer.phases()}
    record = trainer.history[0]
    assert said["forward"]["logit norm"] == pytest.approx(
        np.mean([np.linalg.norm(row) for row in logits.reshape(-1, logits.shape[-1])]), rel=1e-5
    )
    assert said["forward"]["logit spread"] == pytest.approx(np.mean(np.ptp(logits, axis=-1)), rel=1e-5)
    assert said["loss"]["loss"] == record.loss == pytest.approx(loss, rel=1e-6)
    assert said["loss"]["exp(-loss)"] == pytest.approx(math.exp(-loss), rel=1e-5)
    assert said["backward"]["ff gradient norm"] == pytest.approx(np.linalg.norm(grads.group("ff")), rel=1e-4)
    assert said["update"] == {
        "gradient norm": record.grad_norm,
        "learning rate": record.learning_rate,
        "update / weights": record.update_ratio,
    }


def test_exact_zeros_are_counted():
    trainer = make_trainer(make_model(init="zeros"))
    trainer.params["ln_final.gamma"][:] = 0.0
    said = {phase.name: phase.produced for phase in trainer.phases()}
    assert said["backward"]["share of exact zeros"] == 1.0
    assert said["forward"]["logit spread"] == 0.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_machine_has_phases(case):
    model = make_model(corpus=TEXT, **{**_own(case.config), "vocab_size": TEXT.vocab_size})
    trainer = make_trainer(model, sequence_length=case.config.context_length)
    assert len(list(trainer.phases())) == 4


def _own(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_a_loss_that_is_not_finite_ends_the_phases_as_it_ends_a_step():
    trainer = make_trainer(faults=(Fault("infinite", {"reported_loss": lambda loss, kept: math.inf}),))
    under_way = trainer.phases()
    assert next(under_way).name == "forward"
    with pytest.raises(NonFiniteError, match="step 1"):
        next(under_way)
    assert trainer.steps_done == 0


def test_phases_of_a_step_that_others_overtook_say_so():
    trainer = make_trainer()
    under_way = trainer.phases()
    next(under_way)
    trainer.run(steps=2, progress=False)
    with pytest.raises(RuntimeError, match="step 1 was begun by phases, but 2 steps are done"):
        list(under_way)
    assert trainer.steps_done == 2
