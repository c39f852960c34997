"""Predictions before measurements: asked, kept in a file, and scored against what was measured. Nothing blocks."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm_lab.files import replacing

FILE_NAME = "predictions.json"
_FORMAT = "cllm_lab-predictions"
_VERSION = 1
_OPEN = 'No prediction yet. To make one, add answer= with a letter, such as answer="A".'
# What has been asked in this process: key -> options. Only these can be scored.
_asked: dict[str, tuple[str, ...]] = {}


class PredictionsError(ValueError):
    """A predictions file that cannot be read. It is left as it is."""


@dataclass(frozen=True, repr=False)
class Predictions:
    """All predictions kept: ``answers`` key -> text; ``outcomes`` key -> whether it was right, for those scored."""

    answers: Mapping[str, str]
    outcomes: Mapping[str, bool]

    @property
    def right(self) -> int:
        """How many were right."""
        return sum(self.outcomes.values())

    @property
    def wrong(self) -> int:
        """How many were wrong."""
        return len(self.outcomes) - self.right

    @property
    def open(self) -> int:
        """How many are not scored yet."""
        return len(self.answers) - len(self.outcomes)

    def __repr__(self) -> str:
        if not self.answers:
            return "No predictions made."
        lines = [f"{self.right} right, {self.wrong} wrong, {self.open} open."]
        words = {True: "right", False: "wrong", None: "open"}
        lines += [
            f"  {key}: {answer} ({words[self.outcomes.get(key)]})" for key, answer in self.answers.items()
        ]
        return "\n".join(lines)


def predict(key: str, question: str, options: Sequence[str], answer: str | None = None) -> None:
    """Prints a question with lettered options, and the prediction that was made for it.

    ``answer``, a letter or an option's text, is kept in `FILE_NAME` in the current working directory; without it
    the kept one is shown, where there is one. It may be changed until `score` has judged it; from then on the first
    counts. Without any prediction no file is made.

    Raises ValueError for an answer that is no option, for fewer than 2 options, equal ones or ones that are the
    letter of another; TypeError for what is no text; PredictionsError for a file that cannot be read.
    """
    texts = _options(key, question, options)
    _asked[key] = texts
    given = None if answer is None else _chosen("answer", answer, texts)
    kept = _load()
    entry = kept.get(key)
    if entry is not None and entry["answer"] not in texts:
        entry = None  # the question has other options now: the kept answer belongs to none of them
    too_late = entry is not None and entry["right"] is not None and given not in (None, entry["answer"])
    if given is not None and not too_late and (entry is None or entry["answer"] != given):
        entry = {"answer": given, "right": None}
        _save({**kept, key: entry})
    print(question)
    for letter, text in zip(string.ascii_uppercase, texts, strict=False):
        print(f"  {letter}  {text}")
    print(_OPEN if entry is None else f"Your prediction: {_lettered(entry['answer'], texts)}")
    if too_late:
        print("It has been scored; the first prediction counts.")


def score(key: str, right: str) -> None:
    """Holds the prediction made for ``key`` against the measurement's answer, a letter or an option's text.

    Prints the answer, and whether the prediction was right, which is kept; or that none was made. A later
    measurement is compared anew, and its outcome kept.
    Raises ValueError for a key that has not been asked in this session or an answer that is no option;
    PredictionsError for a file that cannot be read.
    """
    if key not in _asked:
        raise ValueError(
            f"nothing has been asked under key={key!r}; run its predict(...) first. Asked: "
            f"{', '.join(map(repr, _asked)) or 'nothing so far'}"
        )
    texts = _asked[key]
    answer = _chosen("right", right, texts)
    kept = _load()
    entry = kept.get(key)
    print(f"Measured: {_lettered(answer, texts)}")
    if entry is None or entry["answer"] not in texts:
        print("No prediction was made.")
        return
    outcome = entry["answer"] == answer
    print(f"Your prediction, {_lettered(entry['answer'], texts)}, was {'right' if outcome else 'wrong'}.")
    if entry["right"] != outcome:
        _save({**kept, key: {**entry, "right": outcome}})


def predictions() -> Predictions:
    """Every prediction kept in the current working directory, and the score.

    Raises PredictionsError for a file that cannot be read.
    """
    kept = _load()
    return Predictions(
        {key: entry["answer"] for key, entry in kept.items()},
        {key: entry["right"] for key, entry in kept.items() if entry["right"] is not None},
    )


def _options(key: str, question: str, options: Sequence[str]) -> tuple[str, ...]:
    for name, text in (("key", key), ("question", question)):
        if not isinstance(text, str) or not text:
            raise TypeError(f"{name} must be a text that is not empty; got {text!r}")
    if isinstance(options, str) or not all(isinstance(text, str) for text in options):
        raise TypeError(f"options must be a sequence of texts; got {options!r}")
    texts = tuple(options)
    if not 2 <= len(texts) <= len(string.ascii_uppercase):
        raise ValueError(f"options must be 2 to {len(string.ascii_uppercase)} texts; got {len(texts)}")
    if len(set(texts)) < len(texts):
        raise ValueError(f"options must differ from each other; got {texts!r}")
    for place, text in enumerate(texts):
        if text.upper() in set(string.ascii_uppercase[: len(texts)]) - {string.ascii_uppercase[place]}:
            raise ValueError(f"options must not be the letter of another option; got {text!r}")
    return texts


def _chosen(name: str, answer: str, texts: tuple[str, ...]) -> str:
    """The option's text for a letter or a text."""
    letters = string.ascii_uppercase[: len(texts)]
    if isinstance(answer, str):
        if answer in texts:
            return answer
        if len(answer) == 1 and answer.upper() in letters:
            return texts[letters.index(answer.upper())]
    raise ValueError(
        f"{name} must be one of the letters {', '.join(letters)}, or an option's text; got {answer!r}"
    )


def _lettered(text: str, texts: tuple[str, ...]) -> str:
    return f"{string.ascii_uppercase[texts.index(text)]}  {text}"


def _load() -> dict[str, dict[str, Any]]:
    """Key -> {"answer": text, "right": True, False or None}; empty where there is no file."""
    try:
        content = Path(FILE_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise PredictionsError(_broken("it is not UTF-8")) from error
    try:
        kept = json.loads(content)
    except json.JSONDecodeError as error:
        raise PredictionsError(_broken(f"it is no JSON ({error})")) from error
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT or kept.get("version") != _VERSION:
        raise PredictionsError(_broken(f"it does not say format {_FORMAT!r} and version {_VERSION}"))
    entries = kept.get("predictions")
    if not isinstance(entries, dict) or not all(_is_entry(entry) for entry in entries.values()):
        raise PredictionsError(_broken("a prediction is not {answer: text, right: true, false or null}"))
    return entries


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"answer", "right"}
        and isinstance(entry["answer"], str)
        and (entry["right"] is None or isinstance(entry["right"], bool))
    )


def _broken(reason: str) -> str:
    return (
        f"{FILE_NAME} in the current working directory cannot be read: {reason}. Nothing was written; repair the "
        "file, or move it away to begin anew"
    )


def _save(kept: Mapping[str, Mapping[str, Any]]) -> None:
    with replacing(FILE_NAME) as unfinished:
        content = {"format": _FORMAT, "version": _VERSION, "predictions": kept}
        unfinished.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
