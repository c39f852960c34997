"""How many claims got which verdict, as bars."""

from __future__ import annotations

import pandas

from cllm_lab.ledger.claim import VERDICTS
from cllm_lab.views.picture import COLOURS, Picture, drawing

HATCHES = ("", "//", "xx", "..", "")
FILLS = (COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], "0.85")
# A piece of a single claim is too narrow for its number.
NARROWEST_WITH_NUMBER = 2


def verdict_bars(claims: pandas.DataFrame, by: str = "document") -> Picture:
    """A bar for each group of claims, its pieces the numbers of verdicts; a table of numbers in words under it.

    ``claims``: as `cllm_lab.claims` gives them, or a part, or with more columns; ``by``: the column that groups them.
    Raises ValueError for a column that is not there and where there is nothing to draw.
    """
    if by not in claims.columns or "verdict" not in claims.columns:
        raise ValueError(f"claims must have the columns verdict and {by}; got {', '.join(claims.columns)}")
    if claims.empty:
        raise ValueError("claims must have at least one row; lab.claims() gives them all")
    counts = pandas.crosstab(claims[by], claims["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    with drawing(8.6, 1.5 + 0.4 * len(counts)) as picture:
        axes = picture.add_subplot()
        left = counts.cumsum(axis=1) - counts
        for verdict, fill, hatch in zip(VERDICTS, FILLS, HATCHES, strict=True):
            bars = axes.barh(
                range(len(counts)),
                counts[verdict],
                left=left[verdict],
                color=fill,
                hatch=hatch,
                edgecolor="white",
                label=verdict,
            )
            shown = [str(n) if n >= NARROWEST_WITH_NUMBER else "" for n in counts[verdict]]
            axes.bar_label(
                bars,
                shown,
                label_type="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
            )
        axes.set(yticks=range(len(counts)), yticklabels=list(counts.index), xlabel="claims", ylabel=by)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        picture.legend(*axes.get_legend_handles_labels(), loc="upper center", ncols=len(VERDICTS))
        picture.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - 0.35 / picture.get_figheight()))
    picture.words = "\n".join(
        f"{group}: " + ", ".join(f"{n} {verdict}" for verdict, n in row.items() if n)
        for group, row in counts.iterrows()
    )
    return picture
