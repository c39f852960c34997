"""The ledger as a table: every claim a row, judged from the file, nothing run."""

import json
import re

import pytest

import cllm_lab as lab
from cllm_lab.ledger import store
from cllm_lab.ledger.claim import VERDICTS
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.ledger.experiments import EXPERIMENTS, Experiment
from cllm_lab.views.claims import claims_summary


def test_a_row_for_each_claim_with_its_verdict() -> None:
    table = lab.claims()
    assert list(table.columns) == ["document", "claim", "experiment", "verdict", "evidence"]
    assert list(table.index) == [claim.id for claim in CLAIMS]
    stored = store.measurements()
    for claim in CLAIMS:
        row = table.loc[claim.id]
        assert (row["document"], row["claim"], row["experiment"]) == (
            claim.document,
            claim.words,
            claim.experiment,
        )
        assert (row["verdict"], row["evidence"]) == claim.judged(stored)
    assert set(table["verdict"]) <= set(VERDICTS)


def test_evidence_has_figures_unless_it_is_awaited() -> None:
    table = lab.claims()
    judged = table[table["verdict"] != "pending"]
    assert all(re.search(r"\d|True|False", evidence) for evidence in judged["evidence"])


def test_nothing_is_run(monkeypatch) -> None:
    def refuse() -> dict:
        raise AssertionError("an experiment was run")

    for name in list(EXPERIMENTS):
        monkeypatch.setitem(EXPERIMENTS, name, Experiment(refuse))
    assert len(lab.claims()) == len(CLAIMS)


def test_the_table_is_read_from_the_file(tmp_path, monkeypatch) -> None:
    found = {name: dict(figures) for name, figures in store.measurements().items()}
    found["sizes"]["embedding_floats"] = 7
    path = store.write(found, tmp_path)
    monkeypatch.setattr(store, "data_path", lambda name: path)
    row = lab.claims().loc["000-embedding-floats"]
    assert row["verdict"] == "refuted"
    assert row["evidence"].endswith(": 7")
    path.write_text(json.dumps({"measurements": {}}), encoding="utf-8")
    assert set(lab.claims()["verdict"]) == {"pending"}


def test_the_summary_counts_every_claim_once() -> None:
    header, rule, *rows, total = claims_summary().splitlines()
    assert header.split(" | ")[1:] == ["claims", *VERDICTS[:-1], VERDICTS[-1] + " |"]
    assert rule.count("---") == len(VERDICTS) + 2
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (*rows, total)]
    assert [row[0] for row in cells] == ["000", "001", "002", "003", "004", "all"]
    table = lab.claims()
    for name, *figures in cells:
        count, *verdicts = map(int, figures)
        assert sum(verdicts) == count
        if name != "all":
            part = table[table["document"] == name]
            assert count == len(part)
            assert verdicts == [int((part["verdict"] == verdict).sum()) for verdict in VERDICTS]
    assert [int(cell) for cell in cells[-1][1:]] == [
        sum(int(row[column]) for row in cells[:-1]) for column in range(1, len(cells[0]))
    ]


@pytest.mark.parametrize("quoted", ["/work", "STORY", "FAULTS"])
def test_the_text_names_nothing_outside_the_project(quoted) -> None:
    table = lab.claims()
    assert not table["claim"].str.contains(quoted, regex=False).any()
    assert not table["evidence"].str.contains(quoted, regex=False).any()
