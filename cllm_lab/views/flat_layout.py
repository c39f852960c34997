"""The flat buffer [embedding | attention | ff | ln], drawn to scale: where gradients are, and what moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from cllm_lab.model.parameters import GROUPS
from cllm_lab.training.diagnostics import TensorRow
from cllm_lab.training.trainer import Trainer
from cllm_lab.views.picture import COLOURS, REFERENCE_COLOUR, Picture, drawing

QUESTIONS = {"gradient": "gradient", "update": "moved"}
BORDERED = 0.01


def flat_layout(trainers: Mapping[str, Trainer], tokens: ArrayLike, targets: ArrayLike) -> Picture:
    """Two strips a trainer over its flat buffer: tensors with a gradient, tensors that a step on this batch moves.

    A filled stretch is a tensor with an entry that is not 0, a hatched one a tensor whose entries are all exactly
    0. Lengths are numbers of parameters. The trainers stay as they were.
    Raises ValueError for no trainer or for trainers whose buffers are laid out differently, and what
    `Trainer.tensor_rows` raises.
    """
    rows = {name: trainer.tensor_rows(tokens, targets) for name, trainer in trainers.items()}
    if not rows:
        raise ValueError("trainers is empty; give at least one")
    first = next(iter(rows))
    for name, found in rows.items():
        if [(row.name, row.shape) for row in found] != [(row.name, row.shape) for row in rows[first]]:
            raise ValueError(f"trainers {first!r} and {name!r} have buffers of different layout")
    sizes = [trainers[first].params[row.name].size for row in rows[first]]
    strips = [(name, question) for name in rows for question in QUESTIONS]
    height = 0.34 * len(strips) + 1.1
    with drawing(8.4, height) as picture:
        axes = picture.add_axes((0.3, 0.55 / height, 0.67, (height - 0.9) / height))
        for place, (name, question) in enumerate(strips):
            starts = (0, *accumulate(sizes))
            for row, start, size in zip(rows[name], starts, sizes, strict=False):
                alive = getattr(row, question) > 0.0
                axes.add_patch(
                    Rectangle(
                        (start, place - 0.36),
                        size,
                        0.72,
                        facecolor=COLOURS[GROUPS.index(row.group)] if alive else "white",
                        edgecolor="white" if alive else REFERENCE_COLOUR,
                        hatch="" if alive else "///",
                        # A border would cover a short stretch.
                        linewidth=0.5 if size > BORDERED * sum(sizes) else 0.0,
                    )
                )
        axes.set(
            xlim=(0, sum(sizes)), ylim=(len(strips) - 0.5, -0.5), xlabel="place in the flat buffer (numbers)"
        )
        axes.set_yticks(range(len(strips)), [f"{name}: {QUESTIONS[question]}" for name, question in strips])
        axes.grid(visible=False)
        _name_groups(axes, rows[first], sizes)
    picture.words = "\n".join(_words(name, found) for name, found in rows.items())
    return picture


def _name_groups(axes: Axes, rows: Sequence[TensorRow], sizes: Sequence[int]) -> None:
    for group in GROUPS:
        places = [place for place, row in enumerate(rows) if row.group == group]
        if places:
            start, end = sum(sizes[: places[0]]), sum(sizes[: places[-1] + 1])
            axes.axvline(end, color=REFERENCE_COLOUR, linewidth=1.0)
            axes.annotate(
                group,
                xy=((start + end) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=COLOURS[GROUPS.index(group)],
            )


def _words(name: str, rows: Sequence[TensorRow]) -> str:
    groups = list(dict.fromkeys(row.group for row in rows))
    return f"{name}: a gradient in {_where(rows, groups, 'gradient')}; a step moves {_where(rows, groups, 'update')}."


def _where(rows: Sequence[TensorRow], groups: Sequence[str], question: str) -> str:
    parts = []
    for group in groups:
        answers = [getattr(row, question) > 0.0 for row in rows if row.group == group]
        if all(answers):
            parts.append(group)
        elif any(answers):
            parts.append(f"{group} ({sum(answers)} of {len(answers)} tensors)")
    return "every group" if parts == list(groups) else ", ".join(parts) or "none"
