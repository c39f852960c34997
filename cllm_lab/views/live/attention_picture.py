"""Attention weights of one layer as a small picture, quick enough to be sent while a model trains."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cllm_lab.views.live.chart_frame import FONT, HEIGHT, WIDTH
from cllm_lab.views.live.style import escaped
from cllm_lab.views.thresholds import ROW_SUM_TOLERANCE, rows_sum_to_1

LEFT: Final = 4.0
GAP: Final = 10.0
# Room above all maps, above each one, and under all of them.
TOP: Final = 20.0
TITLE: Final = 18.0
BELOW: Final = 52.0
# On a map smaller than this, a head is named by its number alone.
NAMED_MAP: Final = 55.0
# Hovering names a row; with more rows than this, a head is named alone.
MOST_ROW_TOOLTIPS: Final = 512
# A head looks mostly, or notably, at a place that has this part of its weight or more; it spreads it evenly where the
# entropy of its rows is on average this part, or more, of what even rows have.
MOSTLY: Final = 0.5
NOTABLY: Final = 0.25
EVENLY: Final = 0.97

# The palette of the picture: exactly 0, colours for what is above it, then what no softmax leaves.
# No more colours than an eye tells apart: each map carries its palette along.
N_COLOURS: Final = 125
ZERO, OUTSIDE, NOT_FINITE = 0, N_COLOURS + 1, N_COLOURS + 2
# From dark blue over green to yellow, ever lighter, so that it can be read without colour too.
ANCHORS: Final = (
    (68, 1, 84),
    (70, 50, 127),
    (54, 92, 141),
    (39, 127, 142),
    (31, 161, 135),
    (74, 194, 109),
    (159, 218, 58),
    (253, 231, 37),
)
ZERO_COLOUR: Final = (200, 200, 200)
OUTSIDE_COLOUR: Final = (255, 140, 200)
NOT_FINITE_COLOUR: Final = (189, 31, 1)

Array = NDArray[np.float64]


def attention_chart(weights: ArrayLike, tokens: Sequence[str], layer: int) -> str:
    """The attention weights A[h, i, j] of one layer, (H, T, T), as one <svg role="img">: a map a head.

    Row i is the token that looks, column j the one looked at. The colour goes with sqrt(A) from 0 to 1, so that
    small weights can be told apart; grey is exactly 0, pink is below 0 or above 1, red is not finite.
    ``tokens`` are the T tokens as text; hovering over a row names them.
    Raises ValueError for another shape, or another number of tokens.
    """
    maps = np.asarray(weights, np.float64)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or 0 in maps.shape:
        raise ValueError(f"weights must have shape (heads, T, T); got {maps.shape}")
    n_heads, T, _ = maps.shape
    if len(tokens) != T:
        raise ValueError(f"tokens must be the {T} tokens of the weights; got {len(tokens)}")
    colours = _colours(maps)
    described = [_describe_head(head) for head in maps]
    across, side = _arrangement(n_heads)
    parts = [f'<text x="{LEFT:g}" y="14">attention of layer {layer}: who looks (row) at whom (column)</text>']
    for h, head in enumerate(maps):
        x = LEFT + (h % across) * (side + GAP)
        y = TOP + (h // across) * (side + TITLE + GAP) + TITLE
        name = f"head {h}" if side >= NAMED_MAP else str(h)
        parts.append(f'<text x="{x:.1f}" y="{y - 5.0:.1f}">{name}</text>')
        parts.append(_image(_png(colours[h]), x, y, side, side))
        tips = (
            _row_tips(head, tokens, h) if n_heads * T <= MOST_ROW_TOOLTIPS else [f"head {h}: {described[h]}"]
        )
        parts.append(_tooltips(tips, x, y, side))
    below = TOP + -(-n_heads // across) * (side + TITLE + GAP)
    parts += _colour_bar(below + 4.0, set(np.unique(colours).tolist()))
    return (
        f'<svg class="cllm-chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" font-size="{FONT:g}" role="img" '
        f'aria-label="{escaped(_in_words(described, T, layer))}" xmlns="http://www.w3.org/2000/svg">'
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" fill="none"/>{"".join(parts)}</svg>'
    )


def _arrangement(n_heads: int) -> tuple[int, float]:
    """How many maps stand side by side, and their side, so that all are as large as fits into the picture."""
    room = HEIGHT - TOP - BELOW

    def side(across: int) -> float:
        down = -(-n_heads // across)
        return min((WIDTH - 2.0 * LEFT - (across - 1) * GAP) / across, room / down - TITLE - GAP)

    across = max(range(1, n_heads + 1), key=side)
    return across, side(across)


def _in_words(described: Sequence[str], T: int, layer: int) -> str:
    """What the maps show; heads that are alike stand together."""
    alike: dict[str, list[str]] = {}
    for h, words in enumerate(described):
        alike.setdefault(words, []).append(str(h))
    sentences = [
        f"{'heads' if len(group) > 1 else 'head'} {', '.join(group)}: {words}."
        for words, group in alike.items()
    ]
    heads = "1 head" if len(described) == 1 else f"{len(described)} heads"
    return f"Attention of layer {layer}, {heads}, {T} tokens. " + " ".join(sentences)


def _describe_head(head: Array) -> str:
    if not np.isfinite(head).all():
        return "not finite"
    if _is_outside(head).any():
        return f"weights outside 0 to 1, from {head.min():.2g} to {head.max():.2g}"
    T = len(head)
    later = np.triu(head, 1)
    words = _where_it_looks(head) if T > 1 else "one token, which can only look at itself"
    if later.any():
        words += f"; {later.sum() / head.sum():.0%} of its weight is on later tokens"
    if not rows_sum_to_1(head):
        words += "; its rows do not all sum to 1"
    return words


def _where_it_looks(head: Array) -> str:
    T = len(head)
    # In the first two rows the places coincide: the previous token is the first one.
    rows = np.arange(min(2, T - 1), T)
    total = head[rows].sum()
    if total == 0.0:
        return "looks at nothing"
    shares = {
        "itself": head[rows, rows].sum() / total,
        "the previous token": head[rows, rows - 1].sum() / total,
    }
    if T > 2:
        shares["the first token"] = head[rows, 0].sum() / total
    room = np.where(np.triu(head, 1)[rows].any(axis=1), T, rows + 1)
    sums = head[rows].sum(axis=1, keepdims=True)
    parts = np.divide(head[rows], sums, out=np.zeros_like(head[rows]), where=sums > 0.0)
    entropies = -(parts * np.log(parts, out=np.zeros_like(parts), where=parts > 0.0)).sum(axis=1)
    if (entropies / np.log(room)).mean() >= EVENLY:
        return "spread evenly"
    place, share = max(shares.items(), key=lambda item: item[1])
    if share >= MOSTLY:
        return f"looks mostly at {place} ({share:.0%})"
    return f"mixed, {share:.0%} on {place}" if share >= NOTABLY else "mixed"


def _colours(weights: Array) -> NDArray[np.uint8]:
    """Each weight's place in the palette."""
    shown = 1 + np.rint(np.sqrt(np.clip(np.nan_to_num(weights), 0.0, 1.0)) * (N_COLOURS - 1))
    shown[weights == 0.0] = ZERO
    shown[_is_outside(weights)] = OUTSIDE
    shown[~np.isfinite(weights)] = NOT_FINITE
    return shown.astype(np.uint8)


def _is_outside(weights: Array) -> NDArray[np.bool_]:
    return (weights < 0.0) | (weights > 1.0 + ROW_SUM_TOLERANCE)


def _palette() -> list[int]:
    places = np.linspace(0.0, 1.0, N_COLOURS)
    channels = [
        np.interp(places, np.linspace(0.0, 1.0, len(ANCHORS)), values)
        for values in zip(*ANCHORS, strict=True)
    ]
    colours = np.rint(np.stack(channels, axis=1)).astype(int)
    return [*ZERO_COLOUR, *colours.ravel().tolist(), *OUTSIDE_COLOUR, *NOT_FINITE_COLOUR]


PALETTE: Final = _palette()


def _png(colours: NDArray[np.uint8]) -> str:
    """A picture in the palette, as the address of its data."""
    picture = Image.fromarray(colours, mode="P")
    picture.putpalette(PALETTE)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


@cache
def _ramp() -> str:
    return _png(np.arange(1, N_COLOURS + 1, dtype=np.uint8)[None, :])


@cache
def _swatch(colour: int) -> str:
    return _png(np.full((1, 1), colour, np.uint8))


def _image(address: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="{address}"/>'
    )


def _tooltips(tips: Sequence[str], x: float, y: float, side: float) -> str:
    """Areas over a map, one under the other, each with words for whoever points at it."""
    tall = side / len(tips)
    areas = "".join(
        f'<path d="M0 {i * tall:.1f}h{side:.0f}v{tall:.1f}H0z"><title>{escaped(tip)}</title></path>'
        for i, tip in enumerate(tips)
    )
    return f'<g class="hover" fill="none" transform="translate({x:.1f} {y:.1f})">{areas}</g>'


def _row_tips(head: Array, tokens: Sequence[str], h: int) -> list[str]:
    """At what each row looks most."""
    return [
        f"head {h}, {tokens[i]!r} ({i}) looks most at {_favourite(row, tokens)}" for i, row in enumerate(head)
    ]


def _favourite(row: Array, tokens: Sequence[str]) -> str:
    if not np.isfinite(row).all():
        return "nothing: not finite"
    j = int(row.argmax())
    return f"{tokens[j]!r} ({j}): {row[j]:.2f}"


def _colour_bar(y: float, used: set[int]) -> list[str]:
    """What the colours mean; of those outside the scale, the ones that were used."""
    left, width = 56.0, 260.0
    parts = [f'<text x="{LEFT:g}" y="{y + 10.0:.1f}">weight</text>', _image(_ramp(), left, y, width, 11.0)]
    for weight in (0.01, 0.1, 0.25, 0.5, 1.0):
        x = left + width * weight**0.5
        parts.append(f'<text x="{x:.1f}" y="{y + 24.0:.1f}" text-anchor="middle">{weight:g}</text>')
    x = left
    for colour, words in ((ZERO, "exactly 0"), (OUTSIDE, "outside 0 to 1"), (NOT_FINITE, "not finite")):
        if colour in used:
            parts.append(_image(_swatch(colour), x, y + 31.0, 12.0, 11.0))
            parts.append(f'<text x="{x + 17.0:.1f}" y="{y + 41.0:.1f}">{words}</text>')
            x += 36.0 + 7.8 * len(words)
    return parts
