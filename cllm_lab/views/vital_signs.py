"""The panel of vital signs: loss, gradient norms of the four groups, size of the updates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from cllm_lab.corpus.entropies import Plateaus
from cllm_lab.model.parameters import GROUPS
from cllm_lab.training.history import History
from cllm_lab.views.curves import describe_losses, levels
from cllm_lab.views.lines import draw_lines, label_y_axis
from cllm_lab.views.picture import GROUND, REFERENCE_COLOUR, Picture, drawing

# A rule of thumb for |update| / |weights| a step, around 1e-3; no theorem stands behind it.
UPDATE_BAND = (1e-4, 1e-2)


def vital_signs(history: History, plateaus: Plateaus | None = None, title: str | None = None) -> Picture:
    """Three charts over the steps of one run: loss with plateaus, gradient norm of each group, update ratio.

    Norms are Euclidean, before clipping, on a logarithmic axis; values of exactly 0 cannot stand there and
    are named in the chart instead. The band of the update ratio is 1e-4 to 1e-2.
    Raises ValueError for a history without a step.
    """
    if len(history) == 0:
        raise ValueError("history has no steps yet; run the trainer first")
    steps = np.array([record.step for record in history], float)
    norms = {group: _column(history, f"grad_norm_{group}") for group in GROUPS}
    ratio = _column(history, "update_ratio")
    with drawing(8.4, 7.2) as picture:
        top, middle, bottom = (picture.add_axes((0.1, low, 0.63, 0.255)) for low in (0.7, 0.39, 0.08))
        if title:
            top.set_title(title, loc="left", parse_math=False)
        known = levels(plateaus)
        losses = np.array(history.losses)
        label_y_axis(top, "loss (nats)")
        draw_lines(
            top,
            {f"loss: {losses[-1]:.2f}": (steps, losses)},
            {f"{name} {level:.2f}": level for name, level in known.items()},
            {},
        )
        _logarithmic(middle, "gradient norm", steps, norms)
        bottom.set_xlabel("step")
        low, high = UPDATE_BAND
        shade_band(bottom, UPDATE_BAND, "usual band", f"usual band, {low:.0e} to {high:.0e}")
        _logarithmic(bottom, "|update| / |weights|", steps, {"update ratio": ratio})
    picture.words = "\n".join(
        [describe_losses("loss", history.losses, known), describe_norms(norms), describe_ratio(ratio)]
    )
    return picture


def shade_band(axes: Axes, band: tuple[float, float], name: str, label: str) -> None:
    """A grey band from low to high across logarithmic axes, labelled inside at its lower edge."""
    axes.axhspan(*band, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0, label=name)
    axes.annotate(
        label,
        (0.99, band[0] * 1.15),
        xycoords=("axes fraction", "data"),
        ha="right",
        color=REFERENCE_COLOUR,
    )


def _logarithmic(axes: Axes, label: str, steps: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    draw_logarithmic(axes, label, {name: (steps, values) for name, values in columns.items()})
    name_zeros(axes, columns)


def draw_logarithmic(
    axes: Axes, label: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]], empty: bool = True
) -> None:
    """Draws series on a logarithmic axis; a value that cannot stand on one leaves a gap.

    Where there is none at all the axis has no numbers, unless something else stands on it (``empty`` is False).
    """
    axes.set_yscale("log")
    label_y_axis(axes, label)
    shown = {
        name: (steps, np.where(np.isfinite(values) & (values > 0.0), values, np.nan))
        for name, (steps, values) in series.items()
    }
    if any(np.isfinite(values).any() for _, values in shown.values()):
        draw_lines(axes, shown, {}, {})
    elif empty:
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)
        axes.grid(visible=False)


def name_zeros(axes: Axes, columns: Mapping[str, np.ndarray]) -> None:
    """Says in the chart which columns are exactly 0, throughout or at some steps."""
    for place, (when, names) in enumerate(_zeros(columns).items()):
        words = f"exactly 0 {when}: {', '.join(names)}"
        axes.text(0.02, 0.06 + 0.12 * place, words, transform=axes.transAxes, bbox=GROUND)


def _zeros(columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """The columns that are 0 at every step, and those that are at some, where there are any."""
    throughout = [name for name, values in columns.items() if np.all(values == 0.0)]
    in_places = [name for name, v in columns.items() if np.any(v == 0.0) and name not in throughout]
    return {
        when: names for when, names in (("throughout", throughout), ("at some steps", in_places)) if names
    }


def _column(history: History, field: str) -> np.ndarray:
    return np.array([getattr(record, field) for record in history], float)


def describe_norms(norms: Mapping[str, np.ndarray]) -> str:
    """Of which groups the gradient norm is above 0 at every step, exactly 0, or not finite."""
    always = [group for group, values in norms.items() if np.all((values > 0.0) & np.isfinite(values))]
    parts = [f"above 0 at every step for {', '.join(always)}"] if always else []
    parts += [f"exactly 0 {when} for {', '.join(groups)}" for when, groups in _zeros(norms).items()]
    endless = [group for group, values in norms.items() if not np.all(np.isfinite(values))]
    parts += [f"not finite at some steps for {', '.join(endless)}"] if endless else []
    return f"gradient norm: {'; '.join(parts)}."


def describe_ratio(
    ratio: np.ndarray, band: tuple[float, float] = UPDATE_BAND, name: str = "usual band", digits: int = 0
) -> str:
    """Where the update ratios of a run lie, by their median, against a band of this name."""
    low, high = band
    median = float(np.median(ratio))
    if math.isnan(median):
        return "update ratio: not finite at some steps."
    if median == 0.0:
        return "update ratio: median 0, nothing moves."
    place = "under" if median < low else "above" if median > high else "inside"
    return f"update ratio: the median lies {place} the {name} of {low:.{digits}e} to {high:.{digits}e}."
