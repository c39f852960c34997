"""What a machine learned at each stage of its repair, one order of the repairs beside another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.faults.repairs import Repaired
from cllm_lab.views.curves import levels
from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, stroke
from cllm_lab.views.thresholds import SAME_LEVEL

# Nothing moved, weights moved, the loss fell: one colour and one hatch each.
STATES = {"no weight moves": "xxx", "weights move": "///", "below ln V": ""}
START = "nothing repaired"


def repair_bars(orders: Mapping[str, Sequence[Repaired]], plateaus: Plateaus) -> Picture:
    """Loss in nats after each stage of each order, a panel an order and a bar a stage, plateaus as reference lines.

    The stages of an order come from `cllm_lab.faults.repairs.in_order`: each makes one repair more than the one
    before it. Colour and hatch tell machines in which no weight moved from those that moved and those that
    learned. Raises ValueError for no order and for stages that do not follow one another.
    """
    if not orders:
        raise ValueError("orders is empty; give at least one")
    names = {title: _stage_names(title, stages) for title, stages in orders.items()}
    rows = max(map(len, orders.values()))
    with drawing(9.6, 1.5 + 0.3 * rows) as picture:
        drawn = picture.subplots(1, len(orders), squeeze=False)[0]
        for axes, (title, stages) in zip(drawn, orders.items(), strict=True):
            _panel(axes, names[title], stages, plateaus)
            axes.set_title(title, loc="left", parse_math=False)
        handles = [
            Patch(facecolor=stroke(place)["color"], hatch=hatch, edgecolor="white", label=state)
            for place, (state, hatch) in enumerate(STATES.items())
        ]
        picture.tight_layout(rect=(0.0, 0.07, 1.0, 1.0))
        picture.legend(handles=handles, loc="lower center", ncols=len(STATES))
    picture.words = "\n".join(
        _in_words(title, names[title], stages, plateaus) for title, stages in orders.items()
    )
    return picture


def _stage_names(title: str, stages: Sequence[Repaired]) -> list[str]:
    """What each stage adds to the one before."""
    if not stages:
        raise ValueError(f"order {title!r} has no stage; in_order(...) gives them")
    names = [", ".join(stages[0].made) or START]
    for before, after in pairwise(stages):
        added = set(after.made) - set(before.made)
        if len(added) != 1 or set(before.made) - set(after.made):
            raise ValueError(
                f"each stage of order {title!r} must make one repair more; {list(before.made)} is followed by "
                f"{list(after.made)}"
            )
        names.append(f"+ {added.pop()}")
    return names


def _state(stage: Repaired, plateaus: Plateaus) -> str:
    if not stage.moved:
        return "no weight moves"
    return "below ln V" if stage.loss < plateaus.uniform - SAME_LEVEL else "weights move"


def _panel(axes: Axes, names: Sequence[str], stages: Sequence[Repaired], plateaus: Plateaus) -> None:
    known = levels(plateaus)
    for place, stage in enumerate(stages):
        state = list(STATES).index(_state(stage, plateaus))
        axes.barh(
            place,
            stage.loss if math.isfinite(stage.loss) else 0.0,
            color=stroke(state)["color"],
            hatch=list(STATES.values())[state],
            edgecolor="white",
        )
    for text, level in zip(("ln V", "H1", "H2", "positional"), known.values(), strict=False):
        axes.axvline(level, color=REFERENCE_COLOUR, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            text,
            xy=(level, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            rotation=90,
            ha="right",
            color="0.2",
            fontsize=8.5,
        )
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="loss after training (nats per token)")
    axes.invert_yaxis()
    axes.grid(False, axis="y")


def _in_words(title: str, names: Sequence[str], stages: Sequence[Repaired], plateaus: Plateaus) -> str:
    still = sum(not stage.moved for stage in stages)
    states = [_state(stage, plateaus) for stage in stages]
    first = "none of them learns"
    if "below ln V" in states:
        place = states.index("below ln V")
        first = f"first below ln V at stage {place} ({names[place]})"
    return f"{title}: no weight moves in {still} of {len(stages)} machines; {first}."
