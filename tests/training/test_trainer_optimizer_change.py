"""Another optimizer while a machine runs: its moments begin at 0, and Adam's bias correction with them."""

import numpy as np
import pytest

from cllm_lab.clinic.optimizer_replay import optimizer_replay
from cllm_lab.model.config import ConfigError
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.trainer import Trainer
from tests.training.machines import TABLES, Fault, a_batch, bits, make_model, make_trainer


@pytest.mark.parametrize("table", TABLES)
def test_adam_put_in_late_begins_like_a_fresh_adam(table):
    late = make_trainer(make_model(table), optimizer="sgd")
    late.run(steps=6, progress=False)
    fresh = make_trainer(make_model(table), optimizer="adam")
    fresh.params.flat[:] = late.params.flat
    late.at(7, optimizer="adam")
    for seed in range(3):
        batch = a_batch(late, seed)
        late.step(*batch)
        fresh.step(*batch)
        assert (late.params.flat == fresh.params.flat).all()


def test_moments_that_both_have_stay():
    trainer = make_trainer(optimizer="adam")
    trainer.run(steps=4, progress=False)
    first = trainer.moments["first"].flat.copy()
    trainer.at(5, optimizer="adamw", weight_decay=0.0)
    other = make_trainer(optimizer="adam")
    trainer.run(steps=3, progress=False)
    other.run(steps=7, progress=False)
    assert (trainer.params.flat == other.params.flat).all() and np.any(first)


def test_moments_that_were_dropped_begin_again_at_0():
    trainer = make_trainer(optimizer="adam")
    trainer.at(4, optimizer="sgd")
    trainer.at(6, optimizer="adam")
    trainer.run(steps=5, progress=False)
    assert trainer.moments == {} and trainer.config.optimizer == "sgd"
    batch = a_batch(trainer)
    before = trainer.params.flat.copy()
    record = trainer.step(*batch)
    # The first step of Adam is one of size rate, whatever the gradient.
    moved = np.abs(trainer.params.flat - before)
    assert np.median(moved[moved > 0]) == pytest.approx(record.learning_rate, rel=1e-3)


def test_a_checkpoint_knows_when_the_moments_began(tmp_path):
    trainer = make_trainer(optimizer="sgd")
    trainer.at(4, optimizer="adam")
    trainer.run(steps=5, progress=False)
    trainer.save(tmp_path / "late.safetensors")
    loaded = Trainer.load(tmp_path / "late.safetensors", trainer.corpus)
    for each in (trainer, loaded):
        each.run(steps=4, progress=False)
    assert bits(loaded) == bits(trainer)


def test_a_state_of_another_optimizer_that_ran_here_is_put_back():
    trainer = make_trainer(optimizer="adam")
    trainer.run(steps=3, progress=False)
    state = trainer.state()
    trainer.run(steps=4, progress=False)
    expected = bits(trainer)
    trainer.load_state(state)
    trainer.at(4, optimizer="momentum", momentum=0.5)
    trainer.run(steps=2, progress=False)
    trainer.load_state(state)
    trainer.run(steps=4, progress=False)
    assert bits(trainer) == expected


def test_faults_stay_when_the_optimizer_changes():
    trainer = make_trainer(
        optimizer="adam", faults=(Fault("unclipped", {"clipping": lambda norm, clip_norm: 1.0}),)
    )
    clipping = trainer.parts.clipping
    trainer.at(1, optimizer="sgd")
    trainer.run(steps=1, progress=False)
    assert trainer.parts.clipping is clipping and trainer.parts.optimizer.name == "sgd"


def test_a_setting_of_another_optimizer_is_refused_when_it_is_planned():
    trainer = make_trainer(optimizer="adamw", weight_decay=0.1)
    with pytest.raises(ConfigError, match="weight_decay"):
        trainer.at(1, optimizer="sgd")
    trainer.at(1, optimizer="sgd", weight_decay=None)
    with pytest.raises(ConfigError, match="optimizer"):
        trainer.at(2, optimizer="rprop")


def test_the_replay_names_an_adam_that_began_late():
    trainer = make_trainer(optimizer="sgd", clip_norm=None)
    trainer.at(31, optimizer="adam")
    trainer.run(steps=32, progress=False)
    assert "adam" in repr(optimizer_replay(trainer, *a_batch(trainer))).splitlines()[0].lower()


def test_moments_of_before_a_step_that_failed_come_back_with_their_optimizer():
    broken = Fault("broken", {"reported_loss": lambda loss, kept: float("nan")})
    failed, straight = make_trainer(optimizer="adam"), make_trainer(optimizer="adam")
    failed.run(steps=3, progress=False)
    failed.at(4, optimizer="sgd", faults=(broken,))
    with pytest.raises(NonFiniteError):
        failed.run(steps=1, progress=False)
    failed.at(4, optimizer="adam", faults=())
    failed.run(steps=3, progress=False)
    straight.run(steps=6, progress=False)
    assert (failed.params.flat == straight.params.flat).all()
    assert failed.moments_since == straight.moments_since == 0


def test_looking_before_a_planned_change_does_not_give_it_moments():
    looked, straight = make_trainer(optimizer="sgd"), make_trainer(optimizer="sgd")
    for trainer in (looked, straight):
        trainer.run(steps=2, progress=False)
        trainer.at(3, optimizer="adam")
    looked.tensor_rows(*a_batch(looked))
    for trainer in (looked, straight):
        trainer.run(steps=3, progress=False)
    assert (looked.params.flat == straight.params.flat).all()
