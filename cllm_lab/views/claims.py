"""The claims ledger as a table: what the documents state, and what the experiments say of it."""

from __future__ import annotations

import pandas

from cllm_lab.ledger import store
from cllm_lab.ledger.claim import VERDICTS
from cllm_lab.ledger.claims import CLAIMS

COLUMNS = ("document", "claim", "experiment", "verdict", "evidence")


def claims() -> pandas.DataFrame:
    """A row for each checkable statement of the five documents, judged now from the stored measurements.

    Columns: document; claim, the statement in brief; experiment, by name; verdict, one of "confirmed", "partly",
    "refuted", "not reproducible here" and "pending"; evidence, a sentence with the figures. The index is the
    claim's id. Nothing is trained: `make claims` runs the experiments again.
    Raises FileNotFoundError where data/claims.json is missing.
    """
    stored = store.measurements()
    rows = [(claim.document, claim.words, claim.experiment, *claim.judged(stored)) for claim in CLAIMS]
    index = pandas.Index([claim.id for claim in CLAIMS], name="id")
    return pandas.DataFrame(rows, columns=list(COLUMNS), index=index)


def claims_summary() -> str:
    """A Markdown table: how many statements of each document got which verdict."""
    table = claims()
    counts = pandas.crosstab(table["document"], table["verdict"]).reindex(
        columns=list(VERDICTS), fill_value=0
    )
    counts.loc["all"] = counts.sum()
    lines = [f"| document | claims | {' | '.join(VERDICTS)} |", "|---" * (len(VERDICTS) + 2) + "|"]
    for document, row in counts.iterrows():
        lines.append(
            f"| {document} | {row.sum()} | {' | '.join(str(row[verdict]) for verdict in VERDICTS)} |"
        )
    return "\n".join(lines)
