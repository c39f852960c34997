"""Which level does a loss stand on? What it knows, read from the corpus's own entropies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cllm_lab.corpus.entropies import Plateaus

KNOWLEDGE = {
    "uniform": "ln V, no knowledge at all",
    "unigram": "H1, how often each token occurs",
    "bigram": "H2, the present token",
    "positional": "the present token and its position in the window",
}
STATES = {
    "not finite": "is not finite",
    "single": "is a single value",
    "constant": "is constant to the last digit",
    "nearly constant": "moves by less than the tolerance, but it moves",
    "rising": "is rising",
    "falling": "is still falling",
    "standing": "has stopped falling",
}
# A difference of means that noise alone would make once in some twenty times is no trend.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, repr=False)
class PlateauLadder:
    """Where a series of losses stands on the ladder of its corpus.

    ``state``: a key of `STATES`; ``level``: the name of the plateau within ``tolerance`` of ``value``, the nearest,
    None where there is none; ``place``: "on uniform", "above uniform", "between unigram and bigram", "below
    positional", ..., "nowhere" for losses that are not finite. ``value``: mean of the last quarter of the losses (of
    the finite ones up to the first that is not), in nats; ``first_bad``: index of the first loss that is not finite.
    ``levels``: name -> nats, from the top.
    """

    state: str
    level: str | None
    place: str
    value: float
    first_bad: int | None
    n_losses: int
    levels: Mapping[str, float]
    tolerance: float

    @property
    def ignores_the_model(self) -> bool:
        """Whether the loss is constant to the last digit at a number that is no level.

        A machine that stands still stands where its weights put it: with zeros that is ln V. A constant elsewhere
        is what a loss gives that does not look at the model, or weights that are not updated.
        """
        return self.state == "constant" and self.level is None

    def __repr__(self) -> str:
        if self.state == "not finite":
            return f"The loss is not finite from value {self._bad_place} of {self.n_losses} on."
        count = "1 value" if self.n_losses == 1 else f"{self.n_losses} values"
        lines = [f"The loss {STATES[self.state]} ({count}); it is now {self.value:.4f} nats, {self.place}."]
        if self.level is not None:
            lines.append(f"  Level: {KNOWLEDGE[self.level]}.")
        if self.ignores_the_model:
            lines.append(
                "  That number is no level: does the loss depend on the model at all, do its weights move?"
            )
        lines.append("  " + ", ".join(f"{name} {nats:.4f}" for name, nats in self.levels.items()))
        return "\n".join(lines)

    @property
    def _bad_place(self) -> int:
        assert self.first_bad is not None
        return self.first_bad + 1


def plateau_ladder(losses: Iterable[float], plateaus: Plateaus, tolerance: float = 0.02) -> PlateauLadder:
    """Places losses, of steps or epochs in their order, on the ladder of ``plateaus``; all in nats.

    Of the last half the earlier and the later part are compared: a difference of their means above ``tolerance``,
    and above two standard errors, is a trend. Equal to the last bit is "constant"; within ``tolerance``
    throughout, "nearly constant". A model that can tell windows apart, or a long context, may end below every level.

    Raises ValueError for no loss or a tolerance that is not finite and above 0, TypeError for what is no number or
    no `Plateaus`.
    """
    if not isinstance(plateaus, Plateaus):
        raise TypeError(f"plateaus must come from corpus.plateaus(); got {type(plateaus).__name__}")
    if not isinstance(tolerance, int | float) or not 0.0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number above 0, in nats; got {tolerance!r}")
    values = [_number(loss) for loss in losses]
    if not values:
        raise ValueError("losses must hold at least one loss; got none")
    levels = {name: nats for name, nats in asdict(plateaus).items() if nats is not None}
    bad = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
    finite = values if bad is None else values[:bad]
    value = _mean(finite[-max(1, len(finite) // 4) :]) if finite else math.nan
    level = None if bad is not None else _nearest(value, levels, tolerance)
    return PlateauLadder(
        state="not finite" if bad is not None else _state(values, tolerance),
        level=level,
        place="nowhere" if bad is not None else f"on {level}" if level else _place(value, levels),
        value=value,
        first_bad=bad,
        n_losses=len(values),
        levels=levels,
        tolerance=tolerance,
    )


def _number(loss: Any) -> float:
    if isinstance(loss, bool | str) or not hasattr(loss, "__float__"):
        raise TypeError(f"losses must be numbers; got {loss!r}")
    return float(loss)


def _mean(values: list[float]) -> float:
    # Equal values have exactly that mean.
    return values[0] if min(values) == max(values) else math.fsum(values) / len(values)


def _state(values: list[float], tolerance: float) -> str:
    if len(values) == 1:
        return "single"
    spread = max(values) - min(values)
    if spread == 0.0:
        return "constant"
    if spread <= tolerance:
        return "nearly constant"
    tail = values[len(values) // 2 :] if len(values) >= 4 else values
    middle = len(tail) // 2
    earlier, later = np.array(tail[:middle]), np.array(tail[middle:])
    fall = float(earlier.mean() - later.mean())
    noise = math.sqrt(sum(float(part.var(ddof=1)) / part.size for part in (earlier, later) if part.size > 1))
    if abs(fall) <= max(tolerance, _STANDARD_ERRORS * noise):
        return "standing"
    return "falling" if fall > 0.0 else "rising"


def _nearest(value: float, levels: Mapping[str, float], tolerance: float) -> str | None:
    near = min(levels, key=lambda name: abs(levels[name] - value))
    return near if abs(levels[near] - value) <= tolerance else None


def _place(value: float, levels: Mapping[str, float]) -> str:
    above = [name for name, nats in levels.items() if nats > value]
    below = [name for name, nats in levels.items() if nats < value]
    if not above:
        return f"above {next(iter(levels))}"
    if not below:
        return f"below {above[-1]}"
    return f"between {above[-1]} and {below[0]}"
