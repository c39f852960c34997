"""Predictions are kept, never lost, judged once, and block nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cllm_lab.clinic.predictions import FILE_NAME, PredictionsError, predict, predictions, score

OPTIONS = ("it falls", "it stays", "it rises")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ask(answer=None, options=OPTIONS, key="loss"):
    predict(key, "What does the loss do?", options, answer)


def test_without_a_prediction_no_file_is_made(capsys):
    ask()
    score("loss", "B")
    assert not Path(FILE_NAME).exists()
    assert capsys.readouterr().out.splitlines() == [
        "What does the loss do?",
        "  A  it falls",
        "  B  it stays",
        "  C  it rises",
        'No prediction yet. To make one, add answer= with a letter, such as answer="A".',
        "Measured: B  it stays",
        "No prediction was made.",
    ]
    assert repr(predictions()) == "No predictions made."


@pytest.mark.parametrize("answer", ["B", "b", "it stays"])
def test_an_answer_is_kept_and_shown_again(answer, capsys):
    ask(answer)
    ask()
    assert capsys.readouterr().out.count("Your prediction: B  it stays") == 2
    assert predictions().answers == {"loss": "it stays"}
    assert predictions().open == 1


@pytest.mark.parametrize(("measured", "outcome"), [("B", True), ("it stays", True), ("A", False)])
def test_the_outcome_is_kept(measured, outcome, capsys):
    ask("B")
    score("loss", measured)
    assert f"was {'right' if outcome else 'wrong'}." in capsys.readouterr().out
    found = predictions()
    assert found.outcomes == {"loss": outcome}
    assert (found.right, found.wrong, found.open) == (outcome, not outcome, 0)
    assert repr(found).startswith(f"{found.right} right, {found.wrong} wrong, 0 open.")


def test_it_may_change_until_it_is_scored(capsys):
    ask("A")
    ask("B")
    score("loss", "B")
    ask("C")
    assert "the first prediction counts" in capsys.readouterr().out
    assert predictions().answers == {"loss": "it stays"}
    ask("B")
    assert "counts" not in capsys.readouterr().out


def test_the_options_may_change_their_order_but_not_their_meaning(capsys):
    ask("B")
    ask(options=tuple(reversed(OPTIONS)))
    assert "Your prediction: B  it stays" in capsys.readouterr().out
    ask(options=("up", "down"))
    assert "No prediction yet" in capsys.readouterr().out
    score("loss", "A")
    assert "No prediction was made." in capsys.readouterr().out
    assert predictions().answers == {"loss": "it stays"}


def test_several_keys():
    ask("A")
    ask("B", key="norm")
    score("norm", "B")
    assert predictions().answers == {"loss": "it falls", "norm": "it stays"}
    assert predictions().outcomes == {"norm": True}


@pytest.mark.parametrize("answer", ["D", "", "AB", 1, "stays"])
def test_an_answer_that_is_no_option(answer):
    with pytest.raises(ValueError, match="answer must be one of the letters A, B, C"):
        ask(answer)
    ask()
    with pytest.raises(ValueError, match="right must be one of the letters A, B, C"):
        score("loss", answer)
    assert not Path(FILE_NAME).exists()


def test_a_key_that_was_not_asked():
    with pytest.raises(ValueError, match=r"key='never'.*run its predict"):
        score("never", "A")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (("one",), ValueError, "2 to 26"),
        (("x",) * 2, ValueError, "differ"),
        (("B", "A"), ValueError, "letter of another"),
        ("AB", TypeError, "sequence of texts"),
        ((1, 2), TypeError, "sequence of texts"),
    ],
)
def test_options_that_cannot_be_told_apart(options, error, words):
    with pytest.raises(error, match=words):
        ask(options=options)


def test_options_that_are_their_own_letters():
    ask("B", options=("A", "B"))
    assert predictions().answers == {"loss": "B"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"format": "other", "version": 1, "predictions": {}}',
        b'{"format": "cllm_lab-predictions", "version": 2, "predictions": {}}',
        b'{"format": "cllm_lab-predictions", "version": 1, "predictions": {"loss": "A"}}',
        b'{"format": "cllm_lab-predictions", "version": 1, "predictions": {"a": {"answer": "A", "right": 1}}}',
    ],
)
def test_a_broken_file_is_named_and_kept(content):
    ask()
    Path(FILE_NAME).write_bytes(content)
    for attempt in (lambda: ask("A"), lambda: score("loss", "A"), predictions):
        with pytest.raises(PredictionsError, match=r"predictions\.json.*Nothing was written"):
            attempt()
    assert Path(FILE_NAME).read_bytes() == content


def test_the_file_is_json_that_people_can_read():
    predict("größe", "Wie groß?", ("klein", "groß"), "B")
    assert json.loads(Path(FILE_NAME).read_text(encoding="utf-8"))["predictions"] == {
        "größe": {"answer": "groß", "right": None}
    }
    assert "größe" in Path(FILE_NAME).read_text(encoding="utf-8")


def test_git_ignores_the_file():
    root = Path(__file__).parents[2]
    assert FILE_NAME in (root / ".gitignore").read_text(encoding="utf-8").splitlines()
