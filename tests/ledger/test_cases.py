"""The case files: numbers and names of the manifest, claims of the ledger, faults of the catalogue, each once."""

import json
import re
from collections import Counter

import pytest

from cllm_lab.faults.catalogue import catalogue
from cllm_lab.ledger.cases import CASES, Case
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.resources import notebooks_path

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.slug)
# Of these numbers are the case files; the notebooks before them teach, those after them sum up.
FIRST, LAST = 10, 22


def test_the_cases_are_the_manifests() -> None:
    listed = [
        (entry["file"], entry["slug"])
        for entry in json.loads((notebooks_path() / "manifest.json").read_text(encoding="utf-8"))
        if FIRST <= int(entry["file"][:2]) <= LAST
    ]
    assert [(case.notebook, case.slug) for case in CASES] == listed


def test_the_name_of_a_file() -> None:
    assert Case(3, "a_slug", "", "", ()).notebook == "03_a_slug.ipynb"


@EACH
def test_its_claims_are_in_the_ledger_each_once(case: Case) -> None:
    assert case.claims
    assert len(set(case.claims)) == len(case.claims)
    assert set(case.claims) <= {claim.id for claim in CLAIMS}


def test_no_two_cases_have_the_same_verdict_in_the_readme() -> None:
    assert len({case.claims[0] for case in CASES}) == len(CASES)


@EACH
def test_the_cause_names_the_document_of_its_claim(case: Case) -> None:
    assert case.claims[0][:3] in re.findall(r"\b00[0-4]\b", case.cause)


def test_a_fault_is_treated_in_one_case() -> None:
    counts = Counter(name for case in CASES for name in case.faults)
    assert set(counts) <= set(catalogue())
    assert [name for name, count in counts.items() if count > 1] == []


@EACH
def test_its_notebook_names_each_of_its_faults(case: Case) -> None:
    text = (notebooks_path() / case.notebook).read_text(encoding="utf-8")
    unnamed = [name for name in case.faults if name not in text and catalogue()[name].title not in text]
    assert unnamed == []


def test_every_document_has_its_case() -> None:
    assert {claim[:3] for case in CASES for claim in case.claims} == {claim.document for claim in CLAIMS}
