"""Attention weights of one layer as a small picture, quick enough to be sent while a model trains."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cllm_lab.views.live.style import escaped

WIDTH: Final = 480.0
MOST_IN_A_ROW: Final = 4
GAP: Final = 10.0
TITLE: Final = 18.0
BELOW: Final = 52.0
LARGEST_MAP: Final = 220.0
FONT: Final = 13
# Hovering names a row; with more rows than this, a head is named alone.
MOST_ROW_TOOLTIPS: Final = 512
ROW_SUM_TOLERANCE: Final = 1e-4
# A head looks mostly, or notably, at a place that has this part of its weight or more; it spreads it evenly where the
# entropy of its rows is on average this part, or more, of what even rows have.
MOSTLY: Final = 0.5
NOTABLY: Final = 0.25
EVENLY: Final = 0.97

# The palette of the picture: exactly 0, colours for what is above it, then what no softmax leaves.
ZERO, OUTSIDE, NOT_FINITE, N_COLOURS = 0, 254, 255, 253
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
    across = min(n_heads, MOST_IN_A_ROW)
    down = -(-n_heads // across)
    side = min(LARGEST_MAP, (WIDTH - (across - 1) * GAP) / across)
    top = TITLE + 2.0
    height = top + down * (side + TITLE + GAP) + BELOW
    parts = [f'<text x="0" y="14">attention of layer {layer}: who looks (row) at whom (column)</text>']
    for h, head in enumerate(maps):
        x = (h % across) * (side + GAP)
        y = top + (h // across) * (side + TITLE + GAP) + TITLE
        parts.append(f'<text x="{x:.1f}" y="{y - 5.0:.1f}">head {h}</text>')
        parts.append(_image(colours[h], x, y, side, side))
        parts += _tooltips(head, tokens, h, x, y, side, rows=n_heads * T <= MOST_ROW_TOOLTIPS)
    parts += _colour_bar(height - BELOW + 4.0, set(np.unique(colours).tolist()))
    words = describe_attention(maps, layer)
    return (
        f'<svg class="cllm-chart" viewBox="0 0 {WIDTH:g} {height:.1f}" width="100%" font-size="{FONT}" role="img" '
        f'aria-label="{escaped(words)}" xmlns="http://www.w3.org/2000/svg">'
        f'<rect class="ground" width="{WIDTH:g}" height="{height:.1f}" fill="none"/>{"".join(parts)}</svg>'
    )


def describe_attention(weights: Array, layer: int) -> str:
    """What the maps (H, T, T) show, in words; heads that are alike stand together."""
    alike: dict[str, list[str]] = {}
    for h, head in enumerate(weights):
        alike.setdefault(_describe_head(head), []).append(str(h))
    sentences = [
        f"{'heads' if len(group) > 1 else 'head'} {', '.join(group)}: {words}."
        for words, group in alike.items()
    ]
    n_heads, T, _ = weights.shape
    heads = "1 head" if n_heads == 1 else f"{n_heads} heads"
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
    if not np.allclose(head.sum(axis=1), 1.0, atol=ROW_SUM_TOLERANCE):
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


def _image(colours: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> str:
    picture = Image.fromarray(colours, mode="P")
    picture.putpalette(PALETTE)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'style="image-rendering: pixelated" href="data:image/png;base64,{data}"/>'
    )


def _tooltips(
    head: Array, tokens: Sequence[str], h: int, x: float, y: float, side: float, rows: bool
) -> list[str]:
    """Areas over a map that say, under the pointer, at what a row looks most."""
    if not rows:
        return [_hover(x, y, side, side, f"head {h}: {_describe_head(head)}")]
    tall = side / len(head)
    return [
        _hover(
            x,
            y + i * tall,
            side,
            tall,
            f"head {h}, {tokens[i]!r} ({i}) looks most at {_favourite(row, tokens)}",
        )
        for i, row in enumerate(head)
    ]


def _favourite(row: Array, tokens: Sequence[str]) -> str:
    if not np.isfinite(row).all():
        return "nothing: not finite"
    j = int(row.argmax())
    return f"{tokens[j]!r} ({j}): {row[j]:.2f}"


def _hover(x: float, y: float, width: float, height: float, words: str) -> str:
    area = f'x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}"'
    return f'<rect class="hover" fill="none" {area}><title>{escaped(words)}</title></rect>'


def _colour_bar(y: float, used: set[int]) -> list[str]:
    """What the colours mean; of those outside the scale, the ones that were used."""
    left, width = 52.0, 260.0
    ramp = np.arange(1, N_COLOURS + 1, dtype=np.uint8)[None, :]
    parts = [f'<text x="0" y="{y + 10.0:.1f}">weight</text>', _image(ramp, left, y, width, 11.0)]
    for weight in (0.01, 0.1, 0.25, 0.5, 1.0):
        x = left + width * weight**0.5
        parts.append(f'<text x="{x:.1f}" y="{y + 24.0:.1f}" text-anchor="middle">{weight:g}</text>')
    x = left
    for colour, words in ((ZERO, "exactly 0"), (OUTSIDE, "outside 0 to 1"), (NOT_FINITE, "not finite")):
        if colour in used:
            parts.append(_image(np.full((1, 1), colour, np.uint8), x, y + 31.0, 12.0, 11.0))
            parts.append(f'<text x="{x + 17.0:.1f}" y="{y + 41.0:.1f}">{words}</text>')
            x += 36.0 + 7.8 * len(words)
    return parts
