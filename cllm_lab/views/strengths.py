"""What the learnt strengths of biases became: where an arm still takes part, and where it has switched itself off."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from cllm_lab.trials.result import Ablation
from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, stroke

MARKERS = ("o", "s", "D", "^", "v", "P")
WIDTH, LEFT, TOP, BOTTOM = 9.2, 2.5, 0.2, 0.95
# Inches of a row, and how much of it its corpora share.
ROW, FILLED = 0.38, 0.74


def strength_ranges(found: Ablation) -> Picture:
    """Learnt strengths at the end of training, a row an arm and in it a line a corpus.

    The marker stands at the mean over runs, layers and heads, the line reaches from the least to the largest of them.
    Reference lines at 0, where an arm is the baseline, and where the strengths began.
    Raises ValueError where no arm has strengths to learn.
    """
    rows = [row for row in found.data["rows"] if row["strength_mean"] is not None]
    if not rows:
        raise ValueError(
            "found has no arm with strengths to learn; attention_bias with bias_learnable is one"
        )
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    height = TOP + ROW * len(arms) + BOTTOM
    with drawing(WIDTH, height) as picture:
        axes = picture.add_axes(
            (LEFT / WIDTH, BOTTOM / height, (WIDTH - LEFT - 0.25) / WIDTH, ROW * len(arms) / height)
        )
        for level in sorted({0.0, *(row["strength_start"] for row in rows)}):
            axes.axvline(level, color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (1, 2)))
        for row in rows:
            place = corpora.index(row["corpus"])
            y = arms.index(row["arm"]) + FILLED * ((place + 0.5) / len(corpora) - 0.5)
            look = {"color": stroke(place)["color"], "linewidth": 1.5}
            axes.plot([row["strength_min"], row["strength_max"]], [y, y], **look)
            axes.plot(row["strength_mean"], y, MARKERS[place % len(MARKERS)], markersize=5.0, **look)
        axes.set_yticks(range(len(arms)), arms, fontsize=9.0)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.set_xlabel("learnt strength: mean, least and largest of all heads, layers and runs")
        handles = [
            Line2D([], [], marker=MARKERS[place % len(MARKERS)], color=stroke(place)["color"], label=corpus)
            for place, corpus in enumerate(corpora)
        ]
        picture.legend(handles=handles, loc="lower center", ncols=len(corpora))
    picture.words = "\n".join(_in_words(arm, [row for row in rows if row["arm"] == arm]) for arm in arms)
    return picture


def _in_words(arm: str, rows: list[dict[str, Any]]) -> str:
    means = ", ".join(f"{row['corpus']} {row['strength_mean']:.2f}" for row in rows)
    ends = [min(row["strength_min"] for row in rows), max(row["strength_max"] for row in rows)]
    return (
        f"{arm}: from {rows[0]['strength_start']:g} to {means}; single heads {ends[0]:.2f} to {ends[1]:.2f}."
    )
