"""The stored measurements are those that the experiments give today."""

from dataclasses import replace

import pytest

from cllm_lab.ledger import store
from cllm_lab.ledger.experiments import EXPERIMENTS, instruments, pinned, runs

# Under this a relative error, or a difference that ought to be zero, is rounding.
NOTHING = 1e-6
STORED = store.measurements()
CHEAP = [name for name, experiment in EXPERIMENTS.items() if experiment.cheap]
LONG = [name for name, experiment in EXPERIMENTS.items() if not experiment.cheap]


def assert_same(found, stored, tolerance) -> None:
    if isinstance(stored, list):
        assert len(found) == len(stored)
        for one, other in zip(found, stored, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(stored, float):
        assert found == pytest.approx(stored, rel=tolerance, abs=NOTHING)
    else:
        assert found == stored


@pytest.mark.parametrize("name", CHEAP)
def test_a_repetition_gives_the_stored_figures(name) -> None:
    found = EXPERIMENTS[name].run()
    assert found.keys() == STORED[name].keys()
    for key, figure in found.items():
        assert_same(figure, STORED[name][key], EXPERIMENTS[name].tolerance)


@pytest.mark.parametrize("name", LONG)
def test_a_short_run_gives_the_stored_names(name, monkeypatch) -> None:
    for module, constant in (
        (pinned, "EPOCHS"),
        (runs, "SHORT"),
        (runs, "LONG"),
        (runs, "SAMPLES"),
        (instruments, "EPOCHS"),
    ):
        monkeypatch.setattr(module, constant, 1)
    for sizes in (pinned.WIDER, pinned.NARROW):
        monkeypatch.setitem(sizes, "d_model", 16)
        monkeypatch.setitem(sizes, "vocab_size", 700)
    monkeypatch.setattr(
        instruments, "DOCUMENTS_MODEL", replace(instruments.DOCUMENTS_MODEL, d_model=16, d_ff=32)
    )
    found = EXPERIMENTS[name].run()
    assert found.keys() == STORED[name].keys()
    for key, figure in STORED[name].items():
        assert isinstance(found[key], list) == isinstance(figure, list)


def test_the_readings_are_taken_as_often_as_document_001_says() -> None:
    assert instruments.EVERY == 5


def test_the_same_figure_passes_and_another_does_not() -> None:
    assert_same([1.0, [2.0]], [1.0, [2.00001]], 1e-3)
    for found, stored in ((1.0, 1.1), ([1.0], [1.0, 2.0]), (True, False), ("a", "b"), (3, 4)):
        with pytest.raises(AssertionError):
            assert_same(found, stored, 1e-3)
