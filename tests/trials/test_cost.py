"""Costs: their form and their sense, never a time."""

import pytest

from cllm_lab.model.config import ModelConfig
from cllm_lab.training.config import TrainConfig
from cllm_lab.trials import cost
from cllm_lab.trials.cost import cost_ratios
from cllm_lab.trials.run import source, task
from tests.trials.machines import LANGUAGE, MODEL, TRAIN


def described(**fields):
    config = ModelConfig(vocab_size=LANGUAGE.vocab_size, **{**MODEL, **fields})
    return task(source(LANGUAGE), config, TrainConfig(**TRAIN), 10, 5, 0, 0)


class Steps:
    """Time as the number of layers that have been trained through."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.made = []
        self.real = cost.trainer_of
        monkeypatch.setattr(cost, "trainer_of", self.trainer)
        monkeypatch.setattr(cost.time, "thread_time", lambda: self.now)

    def trainer(self, description, through_parts=True):
        trainer = self.real(description, through_parts)
        layers = description["model"]["n_layers"] * (
            1.0 if through_parts else 0.5 + description["model"]["n_heads"]
        )

        def steps():
            while True:
                self.now += layers
                self.made.append((description["model"]["n_layers"], through_parts))
                yield None

        trainer.steps = steps
        return trainer


def test_ratios_are_of_steps_in_turn(monkeypatch):
    clock = Steps(monkeypatch)
    found = cost_ratios(
        {"one": described(n_layers=1), "three": described(n_layers=3)}, "one", rounds=2, steps=3
    )
    three = found["machines"]["three"]
    assert three["seconds"] == 3.0
    assert three["parts"] == three["as_run"] == {"ratio": 3.0, "low": 3.0, "high": 3.0}
    assert found["machines"]["one"]["parts"]["ratio"] == 1.0
    through_parts = [layers for layers, parts in clock.made if parts and layers]
    assert through_parts[-6:] == [1, 3, 3, 1, 1, 3]
    assert len(clock.made) == 2 * 2 * 2 * (cost.WARM_UP + 6)


def test_real_costs_have_their_form():
    found = cost_ratios({"one": described()}, "one", rounds=2, steps=1)
    assert found["machines"]["one"]["seconds"] > 0.0
    assert found["machines"]["one"]["parts"]["low"] <= found["machines"]["one"]["parts"]["high"]
    assert found["validation_seconds"] > 0.0
    with pytest.raises(KeyError):
        cost_ratios({"one": described()}, "another", rounds=2, steps=1)
