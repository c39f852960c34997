"""The store: complete or not there, with seed and versions, and no figure that JSON cannot say."""

import json

import pytest

from cllm_lab.ledger import __main__ as program
from cllm_lab.ledger import store
from cllm_lab.ledger.experiments import EXPERIMENTS, Experiment
from cllm_lab.ledger.machines import SEED
from cllm_lab.provenance import PACKAGES


def test_what_is_written_says_how_it_was_made(tmp_path) -> None:
    path = store.write({"sums": {"hours_003": 12}}, tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["measurements"] == {"sums": {"hours_003": 12}}
    assert content["seed"] == SEED
    assert set(content["versions"]) == {"numpy", "numba", "scipy"}
    assert content["machine"]["cores"] >= 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["claims.json"]


def test_a_figure_that_is_not_finite_leaves_the_old_file(tmp_path) -> None:
    path = store.write({"sums": {"x": 1}}, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write({"sums": {"x": float("nan")}}, tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["claims.json"]


def test_the_stored_file_has_seed_and_versions() -> None:
    content = json.loads(store.data_path(store.FILE).read_text(encoding="utf-8"))
    assert content["seed"] == SEED
    assert set(content["versions"]) == set(PACKAGES)
    assert list(content["measurements"]) == list(EXPERIMENTS)


def test_an_unknown_experiment_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no experiment called nonsense; there is sizes, "):
        store.measure(["sizes", "nonsense"])
    with pytest.raises(SystemExit, match="nonsense"):
        program.main(["nonsense"])


def test_the_program_runs_what_is_named_and_keeps_the_rest(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(program, "data_path", lambda name: tmp_path / name)
    monkeypatch.setitem(EXPERIMENTS, "sums", Experiment(lambda: {"hours_003": 99}))
    program.main(["sums"])
    written = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))["measurements"]
    assert written == {**store.measurements(), "sums": {"hours_003": 99}}
    assert capsys.readouterr().out.startswith("sums: ")
