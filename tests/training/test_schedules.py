import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.model.config import ConfigError
from cllm_lab.training.config import SCHEDULES, TrainConfig
from cllm_lab.training.schedules import learning_rate
from tests.training.machines import make_trainer


def rates(total, **settings):
    """The rates of steps 1 to total + 3."""
    config = TrainConfig(**settings)
    return [learning_rate(step, config, total) for step in range(1, total + 4)]


def test_constant_is_the_peak_from_first_to_last():
    assert rates(3, learning_rate=0.5) == [0.5] * 6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_in_equal_steps_to_the_peak(schedule):
    found = rates(12, learning_rate=0.8, warmup_steps=4, schedule=schedule, min_learning_rate=0.1)
    assert found[:4] == [0.2, 0.4, 0.8 * (3 / 4), 0.8]
    assert found[4] <= 0.8


def test_cosine_at_its_landmarks():
    found = rates(8, learning_rate=1.0, min_learning_rate=0.2, schedule="cosine")
    quarter = 0.2 + 0.4 * (1.0 + math.sqrt(0.5))
    assert found[1] == pytest.approx(quarter, rel=1e-15)
    assert found[3] == pytest.approx(0.6, rel=1e-15)
    assert found[5] == pytest.approx(1.2 - quarter, rel=1e-15)
    assert found[7:] == [0.2] * 4
    assert found[0] == pytest.approx(0.2 + 0.4 * (1.0 + math.cos(math.pi / 8)), rel=1e-15)


def test_cosine_counts_from_the_end_of_the_warm_up():
    found = rates(10, learning_rate=1.0, warmup_steps=2, schedule="cosine")
    plain = rates(8, learning_rate=1.0, schedule="cosine")
    assert found[1] == 1.0
    assert found[2:] == plain
    assert found[5] == pytest.approx(0.5, rel=1e-15)
    assert found[9] == 0.0


def test_step_falls_to_a_tenth_after_half_and_to_a_hundredth_after_three_quarters():
    assert rates(8, learning_rate=1.0, schedule="step") == [1.0] * 4 + [0.1] * 2 + [0.01] * 5
    warm = rates(10, learning_rate=1.0, schedule="step", warmup_steps=2)
    assert warm == [0.5] + [1.0] * 5 + [0.1] * 2 + [0.01] * 5


def test_step_never_falls_below_the_floor():
    found = rates(8, learning_rate=1.0, min_learning_rate=0.05, schedule="step")
    assert found == [1.0] * 4 + [0.1] * 2 + [0.05] * 5


plans = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(SCHEDULES),
        "learning_rate": st.floats(1e-6, 1e3),
        "warmup_steps": st.integers(0, 20),
    }
)


@given(plans, st.integers(1, 60), st.floats(0.0, 1.0))
def test_a_rate_rises_while_warming_up_then_never_again_and_stays_in_bounds(plan, length, share):
    floor = share * plan["learning_rate"]
    config = TrainConfig(**plan, min_learning_rate=floor)
    warmup, total = plan["warmup_steps"], plan["warmup_steps"] + length
    found = [learning_rate(step, config, total) for step in range(1, total + 5)]
    assert all(a < b for a, b in pairwise(found[:warmup]))
    after = found[max(0, warmup - 1) :]
    assert all(a >= b for a, b in pairwise(after))
    assert all(0.0 < rate <= plan["learning_rate"] for rate in found[:warmup])
    # Rounding may carry the cosine's ends one unit in the last place outside.
    slack = 1e-15 * plan["learning_rate"]
    assert all(floor - slack <= rate <= plan["learning_rate"] + slack for rate in found[warmup:])
    assert found[total:] == [found[total - 1]] * 4


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_schedule_with_an_end_asks_for_its_horizon(schedule):
    config = TrainConfig(schedule=schedule, warmup_steps=2)
    assert learning_rate(2, config, None) == config.learning_rate
    with pytest.raises(ConfigError) as caught:
        learning_rate(3, config, None)
    assert f"schedule={schedule!r} needs total_steps" in str(caught.value)
    assert "run(epochs=...)" in str(caught.value)
    assert learning_rate(3, TrainConfig(warmup_steps=2), None) == 1e-3


@pytest.mark.parametrize("total", [4, 5])
def test_a_horizon_within_the_warm_up_is_refused(total):
    with pytest.raises(ConfigError, match=rf"warmup_steps=5 must be below the {total} steps of the schedule"):
        learning_rate(6, TrainConfig(schedule="cosine", warmup_steps=5), total)


@pytest.mark.parametrize("asked", [{"steps": 10}, {"epochs": 2}])
def test_run_sets_the_horizon_where_there_is_none(asked):
    trainer = make_trainer(schedule="cosine", learning_rate=0.1, warmup_steps=2)
    found = [record.learning_rate for record in trainer.run(**asked)]
    config = trainer.config
    assert found == [learning_rate(step, config, 10) for step in range(1, 11)]
    assert found[1] == 0.1
    assert found[-1] == 0.0


def test_a_second_run_moves_the_horizon_and_a_given_one_stays():
    trainer = make_trainer(schedule="cosine")
    trainer.run(steps=4)
    history = trainer.run(steps=6)
    assert history[-1].learning_rate == 0.0
    assert history[4].learning_rate == learning_rate(5, trainer.config, 10)
    fixed = make_trainer(schedule="cosine", total_steps=8)
    fixed.run(steps=2)
    found = [record.learning_rate for record in fixed.run(steps=8)]
    assert found == [learning_rate(step, fixed.config, 8) for step in range(1, 11)]
    assert found[7:] == [0.0] * 3


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_single_steps_need_a_given_horizon_and_change_nothing_without(schedule):
    trainer = make_trainer(schedule=schedule)
    before = trainer.params.flat.copy()
    for attempt in (lambda: next(trainer.steps()), lambda: trainer.step([[5]], [[6]])):
        with pytest.raises(ConfigError, match="needs total_steps"):
            attempt()
    assert trainer.steps_done == 0
    assert (trainer.params.flat == before).all()
    assert next(make_trainer(schedule=schedule, total_steps=9).steps()).step == 1
