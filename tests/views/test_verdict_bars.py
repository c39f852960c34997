"""The bars of the verdicts: every claim is counted once, in its group and in its place."""

import pandas
import pytest

import cllm_lab as lab
from cllm_lab.ledger.claim import VERDICTS
from cllm_lab.views.verdict_bars import verdict_bars

FEW = pandas.DataFrame(
    {
        "document": ["000", "000", "000", "000", "001", "001"],
        "kind": ["run", "formula", "run", "run", "run", "formula"],
        "verdict": ["confirmed", "refuted", "confirmed", "pending", "partly", "not reproducible here"],
    }
)


def test_the_pieces_lie_end_to_end_in_the_order_of_the_verdicts() -> None:
    (axes,) = verdict_bars(FEW).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["000", "001"]
    assert [container.get_label() for container in axes.containers] == list(VERDICTS)
    pieces = {
        container.get_label(): [(bar.get_x(), bar.get_width()) for bar in container]
        for container in axes.containers
    }
    assert pieces["confirmed"] == [(0, 2), (0, 0)]
    assert pieces["partly"] == [(2, 0), (0, 1)]
    assert pieces["refuted"] == [(2, 1), (1, 0)]
    assert pieces["pending"] == [(3, 1), (2, 0)]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["2"]


def test_the_words_hold_every_number() -> None:
    assert verdict_bars(FEW).words == (
        "000: 2 confirmed, 1 refuted, 1 pending\n001: 1 partly, 1 not reproducible here"
    )
    assert verdict_bars(FEW, by="kind").words.startswith("formula: 1 refuted, 1 not reproducible here\nrun: ")


def test_the_whole_ledger() -> None:
    table = lab.claims()
    picture = lab.verdict_bars(table)
    (axes,) = picture.axes
    assert sum(bar.get_width() for container in axes.containers for bar in container) == len(table)
    assert [line[:3] for line in picture.words.split("\n")] == ["000", "001", "002", "003", "004"]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="columns verdict and colour; got document, kind, verdict"):
        verdict_bars(FEW, by="colour")
    with pytest.raises(ValueError, match="at least one row"):
        verdict_bars(FEW[:0])
