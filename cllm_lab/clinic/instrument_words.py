"""What the instruments of a run show in its latest steps, in one line of words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import median

from cllm_lab.clinic.plateau_ladder import PlateauLadder, plateau_ladder
from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.model.parameters import GROUPS
from cllm_lab.training.history import StepRecord

LEVEL_NAMES = {"uniform": "ln V", "unigram": "H1", "bigram": "H2", "positional": "positional entropy"}
# Of fewer losses the ladder would compare means of less than five batches.
LEAST_FOR_A_TREND = 20
# Sizes are medians of so many of the latest steps: one batch is too noisy to read.
RECENT = 10
# Gradient norms. The documents call a gradient below 1e-6 vanished; 100 is ten times the largest norm (9.9) of
# the runs that the bands below were measured in.
VANISHING = 1e-6
HUGE = 100.0
# |update| / |weights| of all tensors together, as records have it, in the healthy runs of
# `update_statistics.healthy_band`, after their ten steps of warm-up. SGD moves biases and the norms' tensors by a
# larger share of themselves than matrices, so that its band lies higher than the one for the median over matrices.
RECORD_BANDS = {"sgd": (2.0e-4, 5.5e-3), "adam": (3.3e-4, 1.2e-2)}
WARM_UP = 10


def record_band(family: str = "any") -> tuple[float, float]:
    """What ``update_ratio`` was in healthy runs of a kind of optimizer, "sgd" or "adam"; the span of both for "any".

    Raises ValueError for another name.
    """
    if family == "any":
        lows, highs = zip(*RECORD_BANDS.values(), strict=True)
        return min(lows), max(highs)
    if family not in RECORD_BANDS:
        raise ValueError(f"family must be any, {' or '.join(RECORD_BANDS)}; got {family!r}")
    return RECORD_BANDS[family]


def instrument_words(records: Sequence[StepRecord], plateaus: Plateaus, family: str = "any") -> str:
    """What consecutive ``records``, the latest of a run, show of loss, gradients and updates: one line.

    The loss is the mean of the last quarter of the records, in nats, and is placed by `plateau_ladder`; a trend needs
    twenty records. "Exactly 0" is read in the latest record; sizes are medians of the last ten. ``update_ratio`` is
    held against the `record_band` of the ``family`` of optimizers, in the first ten steps of a run against nothing.
    The line says what was read, and never what part is broken.
    Raises ValueError for no record or a family that does not exist, TypeError for ``plateaus`` of another type.
    """
    window = list(records)
    if not window:
        raise ValueError("records must hold at least one step; got none")
    ladder = plateau_ladder([record.loss for record in window], plateaus)
    norms = [_norms(record) for record in window[-RECENT:]]
    updates = _updates(window[-RECENT:], record_band(family))
    ratio = window[-1].update_ratio
    if any(norms[-1].values()):
        steps = f"{_gradients(norms)}, {updates}"
    elif ratio == 0.0:
        steps = "every gradient exactly 0: nothing moves"
    elif ratio > 0.0:
        # Moments and weight decay move weights that have no gradient.
        steps = "every gradient exactly 0, yet the weights move"
    else:
        steps = f"every gradient exactly 0, {updates}"
    moves = all(record.update_ratio > 0.0 for record in window)
    return f"{_loss(ladder, window, moves)}; {steps}."


def _loss(ladder: PlateauLadder, window: list[StepRecord], moves: bool) -> str:
    if ladder.first_bad is not None:
        bad = window[ladder.first_bad]
        return f"Loss not finite at step {bad.step} ({bad.loss})"
    if ladder.state == "single":
        return f"One step: loss {_number(ladder.value)}, {_place(ladder)}"
    if ladder.state in ("constant", "nearly constant"):
        return _flat(ladder, moves)
    loss = f"Loss {_number(ladder.value)} over {_steps(max(1, len(window) // 4))}"
    if moves and _repeats(window):
        return f"{loss}, the same to the last digit in each epoch though the weights move"
    trend = ladder.state if len(window) >= LEAST_FOR_A_TREND else "too early for a trend"
    return f"{loss}, {trend}, {_place(ladder)}"


def _flat(ladder: PlateauLadder, moves: bool) -> str:
    value, over = f"{ladder.value:.4f}", f"over {_steps(ladder.n_losses)}"
    if ladder.level is not None and f"{ladder.levels[ladder.level]:.4f}" == value:
        at = f"at {_named(ladder.level)} ({value}) {over}"
    else:
        at = f"at {value}, {_place(ladder)}, {over}"
    if not moves:
        return f"Loss flat {at}"
    exactly = "to the last digit " if ladder.state == "constant" else ""
    return f"Loss flat {exactly}{at} though the weights move"


def _place(ladder: PlateauLadder) -> str:
    return _named(ladder.place if ladder.level is None else f"near {ladder.level}")


def _named(place: str) -> str:
    return re.sub("|".join(LEVEL_NAMES), lambda found: LEVEL_NAMES[found[0]], place)


def _repeats(window: list[StepRecord]) -> bool:
    """Whether every loss of the last epoch's length equals, to the last bit, the one of an epoch before."""
    starts = [i for i in range(1, len(window)) if window[i].epoch != window[i - 1].epoch]
    if len(starts) < 2:
        return False
    length = starts[-1] - starts[-2]
    losses = [record.loss for record in window[-2 * length :]]
    return losses[:length] == losses[length:]


def _norms(record: StepRecord) -> dict[str, float]:
    return {group: getattr(record, f"grad_norm_{group}") for group in GROUPS}


def _gradients(norms: list[dict[str, float]]) -> str:
    latest = norms[-1]
    if not math.isfinite(math.hypot(*latest.values())):
        return "gradients not finite"
    zero = [group for group in GROUPS if latest[group] == 0.0]
    if zero:
        return f"{_of(zero)} exactly 0"
    total = _size([math.hypot(*each.values()) for each in norms])
    if total > HUGE:
        return f"gradients huge ({_number(total)})"
    if total < VANISHING:
        return f"gradients vanishingly small ({_number(total)})"
    sizes = {group: _size([each[group] for each in norms]) for group in GROUPS}
    faint = [group for group in GROUPS if sizes[group] < VANISHING * total]
    if faint:
        return f"{_of(faint)} vanishingly small ({_number(max(sizes[group] for group in faint))})"
    return f"gradients {_number(total)}"


def _updates(recent: list[StepRecord], band: tuple[float, float]) -> str:
    latest = recent[-1]
    if latest.update_ratio == 0.0:
        return "the weights do not move" + (" (learning rate 0)" if latest.learning_rate == 0.0 else "")
    if not math.isfinite(latest.update_ratio):
        return "|update| / |weights| not finite"
    if latest.step <= WARM_UP:
        return f"updates {latest.update_ratio:.1e} of the weights"
    size = _size([record.update_ratio for record in recent if record.step > WARM_UP])
    place = "below" if size < band[0] else "above" if size > band[1] else "within"
    return f"updates {place} the healthy band"


def _size(values: list[float]) -> float:
    """Median of those that are neither 0 nor without bound; the last one must be such."""
    return median(value for value in values if 0.0 < value < math.inf)


def _of(groups: list[str]) -> str:
    if len(groups) == 1:
        return f"{groups[0]}'s gradient"
    return f"gradients of {', '.join(groups[:-1])} and {groups[-1]}"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _number(value: float) -> str:
    size = abs(value)
    if size != 0.0 and not 0.01 <= size < 1000.0:
        return f"{value:.1e}"
    return f"{value:.2f}" if size < 10.0 else f"{value:.1f}"
