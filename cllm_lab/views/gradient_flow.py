"""The size of the gradient at each depth of a machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cllm_lab.clinic.gradient_flow import GradientFlow
from cllm_lab.views.lines import line_chart
from cllm_lab.views.picture import Picture


def gradient_flow_curves(
    flows: Mapping[str, GradientFlow], levels: Mapping[str, float] | None = None
) -> Picture:
    """|gradient| at each depth, logarithmic, a line a machine: 0 is the first place's input, n the output of the nth.

    A norm of 0 leaves a gap. ``levels``: horizontal reference lines by name.
    Raises ValueError for no machine, or for flows of different slots.
    """
    slots = {flow.slot for flow in flows.values()}
    if len(slots) != 1:
        raise ValueError(f"flows must be of one slot; got {', '.join(sorted(slots)) or 'no flow'}")
    (slot,) = slots
    lines = {}
    for name, flow in flows.items():
        norms = np.array(flow.norms)
        lines[name] = (np.arange(norms.size), np.where(norms > 0.0, norms, np.nan))
    return line_chart(
        lines,
        x_label=f"depth (0: input of the first {slot}, n: output of the nth)",
        y_label="|gradient|",
        words="\n".join(_describe(name, flow) for name, flow in flows.items()),
        levels=levels,
        log_y=True,
    )


def _describe(name: str, flow: GradientFlow) -> str:
    if not flow.passages[-1].dy:
        return f"{name}: no gradient arrives."
    way = "grows" if flow.per_place > 1.0 else "shrinks"
    return (
        f"{name}: from the last output back to the first input the gradient {way}, "
        f"times {flow.per_place:.1g} a place."
    )
