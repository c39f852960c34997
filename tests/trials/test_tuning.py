"""The learning rate with the lowest mean loss, and what is said of the grid's edges."""

import pytest

from cllm_lab.model.config import ConfigError
from cllm_lab.trials.tuning import best_rate, require_rates


def run_to(loss):
    return {"validation": [[0, 5.0], [10, loss]], "diverged": None}


GONE = {"validation": [], "diverged": {"step": 0, "what": "validation loss"}}


@pytest.mark.parametrize(
    ("losses", "rate", "edge"),
    [
        ({0.1: (3.0, 3.2), 0.2: (3.5, 1.5), 0.3: (3.0, 3.0)}, 0.2, None),
        ({0.3: (1.0, 1.0), 0.2: (2.0, 2.0), 0.1: (3.0, 3.0)}, 0.3, "highest"),
        ({0.1: (1.0, 1.0), 0.2: (1.0, 1.0), 0.3: (3.0, 3.0)}, 0.1, "lowest"),
        ({0.1: (1.0, 1.0)}, 0.1, "only"),
    ],
)
def test_the_best_rate(losses, rate, edge):
    found = best_rate({rate: [run_to(loss) for loss in pair] for rate, pair in losses.items()})
    assert (found["learning_rate"], found["edge"]) == (rate, edge)
    assert found["losses"] == [[rate, sum(losses[rate]) / 2] for rate in sorted(losses)]


def test_a_rate_whose_runs_are_not_finite_loses():
    found = best_rate({0.1: [GONE, run_to(1.0)], 0.2: [run_to(4.0), run_to(4.0)]})
    assert (found["learning_rate"], found["losses"]) == (0.2, [[0.1, None], [0.2, 4.0]])
    assert best_rate({0.1: [GONE], 0.2: [GONE]})["learning_rate"] == 0.1
    assert best_rate({0.1: [run_to(0.5)], 0.2: [run_to(0.0)]})["learning_rate"] == 0.2


def test_a_rate_whose_runs_diverge_loses_to_one_that_is_steady():
    wild = {**run_to(1.0), "diverged": {"step": 12, "what": "loss"}}
    found = best_rate({0.1: [run_to(3.0), run_to(3.0)], 0.2: [run_to(1.0), wild]})
    assert (found["learning_rate"], found["losses"]) == (0.1, [[0.1, 3.0], [0.2, None]])
    worse = {**run_to(3.0), "diverged": {"step": 12, "what": "loss"}}
    assert best_rate({0.1: [worse], 0.2: [wild]})["learning_rate"] == 0.2


def test_the_grid_rises():
    assert require_rates([0.1, 0.01]) == (0.01, 0.1)
    for wrong in ([], [0.1, 0.1], [0.0, 0.1], [-0.1]):
        with pytest.raises(ConfigError, match="learning_rates must be one or more different rates above 0"):
            require_rates(wrong)
