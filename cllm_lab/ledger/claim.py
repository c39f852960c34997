"""What a claim is: a statement of a document, the experiment that tests it, and the rule that judges the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CONFIRMED = "confirmed"
PARTLY = "partly"
REFUTED = "refuted"
NOT_HERE = "not reproducible here"
PENDING = "pending"
VERDICTS = (CONFIRMED, PARTLY, REFUTED, NOT_HERE, PENDING)

Measurements = Mapping[str, Any]
Judgement = tuple[str, str]
Judge = Callable[[Measurements], Judgement]


@dataclass(frozen=True)
class Claim:
    """One checkable statement.

    ``id``: document and name; ``place``: where it stands; ``words``: the statement in brief, in our words, quoted
    words in quotation marks; ``experiment``: the name of the experiment that tests it; ``judge``: measurements of
    that experiment -> (verdict, a sentence with the figures), pure.
    """

    id: str
    document: str
    place: str
    words: str
    experiment: str
    judge: Judge

    def judged(self, stored: Mapping[str, Measurements]) -> Judgement:
        """(verdict, evidence) from the stored measurements, "pending" where the experiment has none yet.

        Raises ValueError where the judge gives a verdict that is none of `VERDICTS`.
        """
        if self.experiment not in stored:
            return PENDING, f"waits for the experiment {self.experiment}"
        verdict, evidence = self.judge(stored[self.experiment])
        if verdict not in VERDICTS:
            raise ValueError(
                f"claim {self.id}: verdict must be one of {', '.join(VERDICTS)}; got {verdict!r}"
            )
        return verdict, evidence


class Book:
    """The claims of one document, in its order."""

    def __init__(self, document: str) -> None:
        self.document = document
        self.claims: list[Claim] = []

    def claim(self, place: str, words: str, experiment: str) -> Callable[[Judge], Judge]:
        """Enters a claim whose judge is the decorated function; the function's name becomes part of the id."""

        def enter(judge: Judge) -> Judge:
            name = f"{self.document}-{judge.__name__.strip('_').replace('_', '-')}"
            self.claims.append(Claim(name, self.document, place, words, experiment, judge))
            return judge

        return enter


def weighed(*holds: bool) -> str:
    """The verdict on a statement of several parts: confirmed where all hold, refuted where none does."""
    if all(holds):
        return CONFIRMED
    return PARTLY if any(holds) else REFUTED


def within(value: float, low: float, high: float) -> bool:
    """Whether a figure lies in a band, ends included; NaN lies in none."""
    return low <= value <= high


def shown(values: list[float], digits: int = 4) -> str:
    """Figures as a document prints them, one after the other."""
    return ", ".join(f"{value:.{digits}f}" for value in values)
