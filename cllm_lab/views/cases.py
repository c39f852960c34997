"""The case files as tables for the README, and the ledger's verdicts that a case ends with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from cllm_lab.faults.catalogue import catalogue
from cllm_lab.faults.fault import Fault
from cllm_lab.ledger import store
from cllm_lab.ledger.cases import CASES, Case
from cllm_lab.ledger.claims import CLAIMS

_BY_ID = {claim.id: claim for claim in CLAIMS}
_LINE = 100


class Markdown(str):
    """A text in Markdown, which Jupyter shows as such."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def case_verdicts(slug: str) -> None:
    """Prints what the ledger says of the claims that a case treats: verdict, document, statement and evidence.

    ``slug``: the case's name, such as "nothing_moves". Nothing is trained: the stored measurements are judged.
    Raises ValueError for a slug that is no case's, naming those there are; FileNotFoundError where
    data/claims.json is missing.
    """
    case, stored = _case(slug), store.measurements()
    judged = {name: _BY_ID[name].judged(stored) for name in case.claims}
    width = max(len(verdict) for verdict, _ in judged.values())
    for name, (verdict, evidence) in judged.items():
        claim = _BY_ID[name]
        print(_wrapped(f"{verdict:{width}}  {claim.document}: {claim.words}", "", width + 2))
        print(_wrapped(evidence, " " * (width + 4), width + 4))


def cases_summary(folder: str = "notebooks/") -> Markdown:
    """A Markdown table of the case files: number and link, symptom, supposed cause, verdict on it and evidence.

    The verdict and the evidence are those of the ledger on the claim that states the cause. ``folder``: where the
    notebooks lie, seen from where the table is shown.
    Raises FileNotFoundError where data/claims.json is missing.
    """
    stored = store.measurements()
    rows = [
        (_link(case, folder), case.symptom, case.cause, *_BY_ID[case.claims[0]].judged(stored))
        for case in CASES
    ]
    return _markdown(("case", "symptom, as reported", "supposed cause", "verdict", "evidence"), rows)


def documented(fault: Fault) -> bool:
    """Whether a fault of the catalogue comes from the documents or the original, rather than from general practice."""
    return not fault.source.startswith("general")


def fault_index() -> Markdown:
    """A Markdown table of the documented faults: id, title, source, and the case that treats it.

    A fault that no case treats has an empty last cell. General faults stand in it where a case treats them.
    """
    treated = {name: case for case in CASES for name in case.faults}
    rows = [
        (f"`{fault.id}`", fault.title, fault.source, _link(treated[fault.id]) if fault.id in treated else "")
        for fault in catalogue().values()
        if documented(fault) or fault.id in treated
    ]
    return _markdown(("fault", "what is wrong", "source", "case"), rows)


def claims_table(document: str | None = None) -> Markdown:
    """A Markdown table of every claim: document, statement, verdict and evidence, as `cllm_lab.claims` has them.

    ``document``: "000" to "004" for the claims of one of them, without the first column.
    Raises ValueError for another document; FileNotFoundError where data/claims.json is missing.
    """
    documents = sorted({claim.document for claim in CLAIMS})
    if document is not None and document not in documents:
        raise ValueError(f"document must be one of {', '.join(documents)}; got {document!r}")
    stored = store.measurements()
    rows = [
        (claim.document, claim.words, *claim.judged(stored))
        for claim in CLAIMS
        if document in (None, claim.document)
    ]
    first = 0 if document is None else 1
    header = ("document", "claim", "verdict", "evidence")
    return _markdown(header[first:], [row[first:] for row in rows])


def _case(slug: str) -> Case:
    for case in CASES:
        if case.slug == slug:
            return case
    raise ValueError(f"no case {slug!r}; the cases are {', '.join(case.slug for case in CASES)}")


def _wrapped(text: str, first: str, indent: int) -> str:
    return textwrap.fill(
        text, _LINE, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _link(case: Case, folder: str = "notebooks/") -> str:
    return f"[{case.number}]({folder}{case.notebook})"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    lines = [_row(header), "|" + "---|" * len(header), *map(_row, rows)]
    return Markdown("\n".join(lines))


def _row(cells: Sequence[str]) -> str:
    """A bar would end its cell, and a smaller-than sign would begin a tag."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
