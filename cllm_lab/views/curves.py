"""Learning curves with the corpus's plateaus drawn in, and learning rates over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.history import History
from cllm_lab.training.schedules import learning_rate
from cllm_lab.views.lines import Series, line_chart
from cllm_lab.views.picture import Picture
from cllm_lab.views.thresholds import SAME_LEVEL

LEVEL_NAMES = {
    "uniform": "ln V",
    "unigram": "unigram entropy",
    "bigram": "bigram entropy",
    "positional": "positional entropy",
}
AXES = ("epoch", "step")

Run = History | Sequence[float]


def loss_curve(
    runs: Mapping[str, Run],
    plateaus: Plateaus | None = None,
    by: str = "epoch",
    title: str | None = None,
) -> Picture:
    """Loss in nats against the epoch (means) or the step, a line a run, plateaus as labelled reference lines.

    A run is a `History` or a plain list of losses, one per epoch or step. Validation losses stand beside
    their run where it took any. ``plateaus`` come from ``corpus.plateaus()``; the positional one is drawn
    where it was asked for there.
    Raises ValueError for another ``by``, for no run, and for a run without a complete epoch or step.
    """
    if by not in AXES:
        raise ValueError(f"by must be one of {', '.join(map(repr, AXES))}; got {by!r}")
    series: dict[str, Series] = {}
    for name, run in runs.items():
        losses = _losses(name, run, by)
        series[f"{name}: {losses[-1]:.2f}"] = (range(1, len(losses) + 1), losses)
        validation = _validation(run, by)
        if validation:
            series[f"{name}, held out: {validation[-1][1]:.2f}"] = (
                [place for place, _ in validation],
                [loss for _, loss in validation],
            )
    known = levels(plateaus)
    return line_chart(
        series,
        x_label=by,
        y_label="loss (nats per token)",
        words=describe_runs(runs, plateaus, by),
        levels={f"{name} {level:.2f}": level for name, level in known.items()},
        title=title,
    )


def levels(plateaus: Plateaus | None) -> dict[str, float]:
    """The plateaus that there are, by name, highest first."""
    found = {name: getattr(plateaus, field, None) for field, name in LEVEL_NAMES.items()}
    return {name: level for name, level in found.items() if level is not None}


def describe_runs(runs: Mapping[str, Run], plateaus: Plateaus | None = None, by: str = "epoch") -> str:
    """What `loss_curve` of the same arguments shows, in words: a line a run, and one for its held-out loss."""
    known = levels(plateaus)
    lines = []
    for name, run in runs.items():
        lines.append(describe_losses(name, _losses(name, run, by), known))
        validation = [loss for _, loss in _validation(run, by)]
        if validation:
            lines.append(describe_losses(f"{name}, held out", validation, known))
    return "\n".join(lines)


def describe_losses(name: str, losses: Sequence[float], known: Mapping[str, float]) -> str:
    """Where a row of losses starts, which way it goes, and between which levels it ends."""
    for place, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            return f"{name}: not finite from value {place} on."
    first, last = losses[0], losses[-1]
    if max(losses) - min(losses) < SAME_LEVEL:
        at = [level for level, value in known.items() if abs(value - first) < SAME_LEVEL]
        return f"{name}: stays at {first:.2f} nats" + (f", which is {at[0]}." if at else ".")
    if abs(last - first) < SAME_LEVEL:
        way = "moves, but ends where it began"
    else:
        way = "falls" if last < first else "rises"
    end = _end(last, known) if known else f"ends at {last:.1f}"
    return f"{name}: starts at {first:.2f} nats, {way}, {end}."


def _end(last: float, known: Mapping[str, float]) -> str:
    named = {level: f"the {level}" if level.endswith("entropy") else level for level in known}
    for level, value in known.items():
        if abs(value - last) < SAME_LEVEL:
            return f"ends at {named[level]} ({value:.2f})"
    above = [level for level, value in known.items() if last > value]
    under = [level for level, value in known.items() if last < value]
    parts = [f"under {named[under[-1]]} ({known[under[-1]]:.2f})"] if under else []
    parts += [f"above {named[above[0]]} ({known[above[0]]:.2f})"] if above else []
    return "ends " + " and ".join(parts)


def _losses(name: str, run: Run, by: str) -> list[float]:
    if isinstance(run, History):
        losses = run.epoch_loss if by == "epoch" else run.losses
    else:
        losses = [float(loss) for loss in run]
    if not losses:
        raise ValueError(f"run {name!r} has no complete {by} yet; train on, or choose another `by`")
    return losses


def _validation(run: Run, by: str) -> list[tuple[int, float]]:
    """(epoch or step, loss) wherever a run took its validation loss; the last of each epoch."""
    if not isinstance(run, History):
        return []
    taken = {
        (record.epoch if by == "epoch" else record.step): record.validation_loss
        for record in run
        if record.validation_loss is not None
    }
    last = len(run.epoch_loss) if by == "epoch" else len(run)
    return [(place, loss) for place, loss in taken.items() if place <= last]


def schedule_curves(schedules: Mapping[str, TrainConfig], total_steps: int) -> Picture:
    """Learning rate against the step for each configuration, from step 1 to ``total_steps``.

    Raises ConfigError where a warm-up is as long as the schedule, ValueError for ``total_steps`` below 2.
    """
    if total_steps < 2:
        raise ValueError(f"total_steps must be at least 2, or there is no curve; got {total_steps}")
    steps = range(1, total_steps + 1)
    rates = {
        name: [learning_rate(step, config, total_steps) for step in steps]
        for name, config in schedules.items()
    }
    sentences = []
    for name, values in rates.items():
        peak = max(values)
        sentences.append(
            f"{name}: starts at {values[0]:.1e}, reaches {peak:.1e} at step {values.index(peak) + 1}, "
            f"ends at {values[-1]:.1e}."
        )
    return line_chart(
        {name: (steps, values) for name, values in rates.items()},
        x_label="step",
        y_label="learning rate",
        words="\n".join(sentences),
    )
