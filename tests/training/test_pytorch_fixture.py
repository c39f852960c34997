"""Ten steps of this library against the ten that PyTorch took when the fixture was recorded."""

import math

import numpy as np
import pytest

from tests.ten_steps import N_STEPS, RUNS, TABLES, comparable, recorded, train

FIXTURE = {run["name"]: run for run in recorded()["runs"]}
TOLERANCE = 1e-10


def test_the_fixture_holds_these_runs():
    assert list(FIXTURE) == [run.name for run in RUNS]
    for run in RUNS:
        kept = FIXTURE[run.name]
        assert kept["seed"] == run.seed
        assert kept["model"] == dict(run.model_settings)
        assert kept["train"] == {
            key: list(v) if isinstance(v, tuple) else v for key, v in run.train_settings.items()
        }
        assert kept["batches"] == run.batches().tolist()
        assert len(kept["losses"]) == len(kept["grad_norms"]) == N_STEPS


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_losses_and_gradient_norms_are_those_of_pytorch(run, table):
    outcome = train(run, table, "float64")
    assert outcome.losses == pytest.approx(FIXTURE[run.name]["losses"], rel=TOLERANCE)
    assert outcome.grad_norms == pytest.approx(FIXTURE[run.name]["grad_norms"], rel=TOLERANCE)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_tensors_after_ten_steps_have_the_sums_and_norms_of_pytorchs(run, table):
    tensors = train(run, table, "float64").params
    assert list(tensors) == list(FIXTURE[run.name]["tensors"])
    for name, (total, norm) in FIXTURE[run.name]["tensors"].items():
        ours = comparable(name, tensors[name])
        assert np.linalg.norm(ours) == pytest.approx(norm, rel=TOLERANCE), name
        # A sum of n numbers of one norm is at most sqrt(n) times that norm.
        assert ours.sum() == pytest.approx(total, abs=TOLERANCE * norm * math.sqrt(ours.size)), name
