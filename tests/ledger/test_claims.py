"""Every claim is judged by code from measurements, and other measurements change the verdict."""

import copy

import pytest

from cllm_lab.ledger import store
from cllm_lab.ledger.claim import (
    CONFIRMED,
    NOT_HERE,
    PARTLY,
    REFUTED,
    Book,
    Claim,
    shown,
    weighed,
    within,
)
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.ledger.experiments import EXPERIMENTS
from tests.ledger.alterations import ALTERATIONS, PENDING

STORED = store.measurements()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_other_measurements_change_the_verdict(claim) -> None:
    verdict, evidence = claim.judged(STORED)
    if claim.id in PENDING:
        supporting, opposing = PENDING[claim.id]
        assert verdict == "pending"
        assert claim.judged({claim.experiment: supporting})[0] == CONFIRMED
        assert claim.judged({claim.experiment: opposing})[0] == REFUTED
        return
    figures = copy.deepcopy(STORED[claim.experiment])
    expected, change = ALTERATIONS[claim.id]
    if callable(change):
        change(figures)
    else:
        assert change.keys() <= figures.keys()
        figures.update(change)
    other, other_evidence = claim.judged({claim.experiment: figures})
    assert other == expected != verdict
    assert other_evidence != evidence, "the evidence does not show the figures that decide"


def test_every_claim_has_an_alteration_and_no_alteration_is_left_over() -> None:
    assert {claim.id for claim in CLAIMS} == ALTERATIONS.keys() | PENDING.keys()
    assert not ALTERATIONS.keys() & PENDING.keys()


def test_only_pending_claims_lack_an_experiment() -> None:
    for claim in CLAIMS:
        assert (claim.judged(STORED)[0] == "pending") == (claim.experiment not in EXPERIMENTS), claim.id
    assert STORED.keys() == EXPERIMENTS.keys()


def test_every_experiment_tests_a_claim() -> None:
    assert EXPERIMENTS.keys() <= {claim.experiment for claim in CLAIMS}


def test_judges_are_pure() -> None:
    before = copy.deepcopy(STORED)
    first = [claim.judged(STORED) for claim in CLAIMS]
    assert first == [claim.judged(STORED) for claim in CLAIMS]
    assert before == STORED


def test_all_five_documents_are_read_and_no_statement_stands_twice() -> None:
    assert {claim.document for claim in CLAIMS} == {"000", "001", "002", "003", "004"}
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) >= 60
    assert len({(claim.document, claim.place, claim.words) for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.id.startswith(claim.document)


def test_what_cannot_be_tested_here_says_why() -> None:
    reasons = [claim.judged(STORED)[1] for claim in CLAIMS if claim.judged(STORED)[0] == NOT_HERE]
    assert reasons
    assert all("sources" in reason or "not here" in reason or "not stated" in reason for reason in reasons)


def test_the_verdict_on_several_parts() -> None:
    assert weighed(True, True) == CONFIRMED
    assert weighed(True, False) == PARTLY
    assert weighed(False, False) == REFUTED


def test_a_figure_that_is_no_number_lies_in_no_band() -> None:
    assert within(1.0, 1.0, 2.0)
    assert within(2.0, 1.0, 2.0)
    assert not within(2.1, 1.0, 2.0)
    assert not within(float("nan"), 1.0, 2.0)


def test_figures_are_shown_as_they_were_printed() -> None:
    assert shown([9.21034, 8.0]) == "9.2103, 8.0000"


def test_a_verdict_that_is_none_is_refused() -> None:
    wrong = Claim("000-x", "000", "here", "words", "x", lambda m: ("perhaps", "figures"))
    with pytest.raises(ValueError, match=r"verdict must be one of confirmed, partly.*'perhaps'"):
        wrong.judged({"x": {}})


def test_a_book_names_a_claim_by_its_document_and_its_judge() -> None:
    book = Book("007")

    @book.claim("place", "words", "experiment")
    def _some_name(m):
        return CONFIRMED, str(m["figure"])

    assert book.claims == [Claim("007-some-name", "007", "place", "words", "experiment", _some_name)]
    assert book.claims[0].judged({"experiment": {"figure": 3}}) == (CONFIRMED, "3")
    assert book.claims[0].judged({}) == ("pending", "waits for the experiment experiment")
