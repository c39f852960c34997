"""Where the time of a step goes, as bars."""

from __future__ import annotations

from collections.abc import Sequence

from cllm_lab.clinic.part_times import PartTime
from cllm_lab.views.picture import Picture, drawing, stroke

MILLISECONDS = 1e3
HATCHES = {"forward": "", "backward": "///"}


def part_time_bars(times: Sequence[PartTime]) -> Picture:
    """Milliseconds of each part, forward and backward stacked, the longest first; parts with matrix products say so.

    Raises ValueError where there is nothing to draw.
    """
    if not times:
        raise ValueError("times must hold at least one part; part_times(model, tokens, targets) gives them")
    total = {slot: sum(t.seconds for t in times if t.slot == slot) for slot in {t.slot for t in times}}
    slots = sorted(total, key=lambda slot: (-total[slot], slot))
    multiplying = {t.slot for t in times if t.multiply_adds}
    with drawing(8.6, 0.8 + 0.27 * len(slots)) as picture:
        axes = picture.add_subplot()
        for number, (direction, hatch) in enumerate(HATCHES.items()):
            lengths = {t.slot: t.seconds * MILLISECONDS for t in times if t.direction == direction}
            before = {t.slot: t.seconds * MILLISECONDS for t in times if number and t.direction == "forward"}
            axes.barh(
                range(len(slots)),
                [lengths.get(slot, 0.0) for slot in slots],
                left=[before.get(slot, 0.0) for slot in slots],
                color=stroke(number)["color"],
                hatch=hatch,
                edgecolor="white",
                label=direction,
            )
        names = [f"{slot} (products)" if slot in multiplying else slot for slot in slots]
        axes.set(yticks=range(len(slots)), yticklabels=names, xlabel="milliseconds in a pass")
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.legend(loc="lower right")
        picture.tight_layout()
    whole = sum(total.values())
    share = sum(total[slot] for slot in multiplying) / whole
    picture.words = (
        f"A pass forward and back takes {whole * MILLISECONDS:.3g} ms; {slots[0]} is the longest part. "
        f"Parts that make matrix products take {share:.0%} of it."
    )
    return picture
