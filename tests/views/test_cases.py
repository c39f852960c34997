"""The cases as tables: each verdict is the ledger's, every documented fault has its case, and bars end no cell."""

import json
import re

import pytest

import cllm_lab as lab
from cllm_lab.ledger import store
from cllm_lab.ledger.cases import CASES
from cllm_lab.ledger.claim import CONFIRMED, VERDICTS, Claim
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.resources import notebooks_path
from cllm_lab.views import cases as room
from cllm_lab.views.cases import case_verdicts, cases_summary, claims_table, documented, fault_index

LINK = re.compile(r"\[(\d\d)\]\(notebooks/(\S+)\)")


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table without its two lines of header; a bar inside a cell has a backslash."""
    header, rule, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    assert {len(row) for row in (header, rule, *rows)} == {len(header)}
    assert set(rule) == {"---"}
    return [[cell.strip().replace("\\|", "|").replace("&lt;", "<") for cell in row] for row in rows]


def ledger() -> dict[str, tuple[str, str]]:
    return {name: (row["verdict"], row["evidence"]) for name, row in lab.claims().iterrows()}


def test_the_summary_has_a_row_for_each_case_with_the_ledgers_verdict() -> None:
    rows, judged = cells(cases_summary()), ledger()
    assert len(rows) == len(CASES)
    for row, case in zip(rows, CASES, strict=True):
        link = LINK.fullmatch(row[0])
        assert link is not None and link.groups() == (str(case.number), case.notebook)
        assert row[1:3] == [case.symptom, case.cause]
        assert tuple(row[3:]) == judged[case.claims[0]]


def test_the_links_beside_the_notebooks() -> None:
    here = cases_summary(folder="")
    assert cells(here)[0][0] == f"[{CASES[0].number}]({CASES[0].notebook})"
    assert here == cases_summary().replace("](notebooks/", "](")


def test_the_summary_follows_the_measurements(tmp_path, monkeypatch) -> None:
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"measurements": {}}), encoding="utf-8")
    monkeypatch.setattr(store, "data_path", lambda name: path)
    assert {row[3] for row in cells(cases_summary())} == {"pending"}
    assert {row[2] for row in cells(claims_table())} == {"pending"}


def test_every_documented_fault_has_its_case_exactly_once() -> None:
    rows = cells(fault_index())
    faults = {row[0].strip("`"): row for row in rows}
    assert len(faults) == len(rows)
    manifest = json.loads((notebooks_path() / "manifest.json").read_text(encoding="utf-8"))
    files = {entry["file"] for entry in manifest}
    for name, fault in lab.faults.catalogue().items():
        if documented(fault):
            link = LINK.fullmatch(faults[name][3])
            assert link is not None, f"{name} is treated in no case"
            assert link[2] in files
            assert faults[name][1:3] == [fault.title, fault.source]


def test_a_fault_that_no_document_has_stands_there_only_where_a_case_treats_it() -> None:
    treated = {name for case in CASES for name in case.faults}
    for row in cells(fault_index()):
        name = row[0].strip("`")
        assert documented(lab.faults.catalogue()[name]) or name in treated


def test_what_counts_as_documented() -> None:
    known = lab.faults.catalogue()
    assert documented(known["doubled-attention"]) and documented(known["strided-heads"])
    assert not documented(known["shuffled-targets"])
    undocumented = [fault.source for fault in known.values() if not documented(fault)]
    assert undocumented and len(undocumented) < len(known) / 2


def test_the_claims_are_those_of_the_data_frame() -> None:
    table = lab.claims()
    columns = ["document", "claim", "verdict", "evidence"]
    assert cells(claims_table()) == table[columns].to_numpy().tolist()


def test_the_claims_of_one_document() -> None:
    every = cells(claims_table())
    for document in sorted({row[0] for row in every}):
        assert cells(claims_table(document)) == [row[1:] for row in every if row[0] == document]
    with pytest.raises(ValueError, match="document must be one of 000, 001, 002, 003, 004; got '5'"):
        claims_table("5")


def test_jupyter_shows_a_table() -> None:
    table = claims_table("004")
    assert table._repr_markdown_() == repr(table) == str(table)


def test_a_bar_and_a_smaller_than_sign_stay_inside_their_cell(monkeypatch) -> None:
    awkward = Claim("000-x", "000", "", "|a| < <b>", "sizes", lambda m: (CONFIRMED, "|1|"))
    monkeypatch.setattr(room, "CLAIMS", (awkward,))
    assert cells(claims_table()) == [["000", "|a| < <b>", CONFIRMED, "|1|"]]
    assert "<b>" not in claims_table()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
def test_the_verdicts_of_a_case_are_printed(case, capsys) -> None:
    case_verdicts(case.slug)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    words = " ".join(printed.split())
    known, judged = {claim.id: claim for claim in CLAIMS}, ledger()
    for name in case.claims:
        verdict, evidence = judged[name]
        statement = f"{verdict} {known[name].document}: {known[name].words} {evidence}"
        assert " ".join(statement.split()) in words
    starts = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert len(starts) == len(case.claims) and all(line.startswith(VERDICTS) for line in starts)


def test_a_case_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no case 'everything_moves'; the cases are the_number, "):
        lab.case_verdicts("everything_moves")
