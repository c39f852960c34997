"""Matrices as pictures: attention weights head by head, and which position depends on which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from numpy.typing import ArrayLike

from cllm_lab.clinic.dependency import dependency_matrix
from cllm_lab.model.parameters import Array
from cllm_lab.model.transformer import Transformer
from cllm_lab.views.picture import COLOURS, Picture, drawing
from cllm_lab.views.thresholds import rows_sum_to_1

MOST_LABELLED = 16
MOST_IN_A_ROW = 4
LONGEST_LABEL = 12
BACKGROUND = "0.9"


def attention_maps(weights: ArrayLike, tokens: Sequence[str], names: Sequence[str] | None = None) -> Picture:
    """Attention weights A[h, i, j] of (H, T, T), a map a head: row i looks at column j.

    Colours go from 0 to 1; grey is exactly 0.

    ``tokens``: the T tokens as text; ``names``: of the maps, "head 0", "head 1", ... where None.
    Raises ValueError for another shape, or another number of tokens or names.
    """
    array = np.asarray(weights, float)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or 0 in array.shape:
        raise ValueError(f"weights must have shape (heads, T, T); got {array.shape}")
    if len(tokens) != array.shape[1]:
        raise ValueError(f"tokens must be the {array.shape[1]} tokens of the weights; got {len(tokens)}")
    titles = [f"head {h}" for h in range(len(array))] if names is None else list(names)
    if len(titles) != len(array):
        raise ValueError(f"names must name {len(array)} maps; got {len(titles)}")
    # What is exactly 0 is left out, so that the grey behind the maps tells it from a small weight.
    shown = np.ma.masked_equal(array, 0.0)
    picture = _maps(
        shown, titles, tokens, "token looked at", "token that looks", norm=Normalize(0.0, 1.0), cmap="viridis"
    )
    alike: dict[str, list[str]] = {}
    for title, head in zip(titles, array, strict=True):
        alike.setdefault(_describe_attention(head), []).append(title)
    picture.words = "\n".join(f"{', '.join(named)}: {words}" for words, named in alike.items())
    return picture


def _describe_attention(head: Array) -> str:
    sums = "each row sums to 1" if rows_sum_to_1(head) else "the rows do not all sum to 1"
    future = float(np.triu(head, 1).sum())
    ahead = "no weight on what comes later" if future == 0.0 else "weight on what comes later"
    return f"{sums}; {ahead}."


def dependency(model: Transformer, tokens: ArrayLike) -> Array:
    """`dependency_matrix` of a model for one window of token ids (T,), computed in float64.

    Raises ValueError or TypeError as `Transformer.forward` does.
    """
    window = np.asarray(tokens)
    if window.ndim != 1:
        raise ValueError(f"tokens must be one window of shape (T,); got shape {window.shape}")
    return dependency_matrix(model.astype("float64"), window)


def dependency_maps(models: Mapping[str, Transformer], tokens: ArrayLike, labels: Sequence[str]) -> Picture:
    """For each model, which logits (row) move when which token (column) is replaced; see `dependency`.

    ``labels``: the tokens as text. Raises ValueError for no model and for another number of labels.
    """
    if not models:
        raise ValueError("models is empty; give at least one")
    moved = np.stack([dependency(model, tokens) > 0.0 for model in models.values()])
    if len(labels) != moved.shape[-1]:
        raise ValueError(f"labels must be the {moved.shape[-1]} tokens as text; got {len(labels)}")
    look = {"cmap": ListedColormap([BACKGROUND, COLOURS[0]]), "norm": BoundaryNorm([-0.5, 0.5, 1.5], 2)}
    ticks = {"ticks": [0, 1], "labels": ["unmoved", "moves"]}
    picture = _maps(
        moved.astype(float), list(models), labels, "token replaced", "logits at", **look, bar=ticks
    )
    picture.words = "\n".join(
        _describe_dependency(name, matrix) for name, matrix in zip(models, moved, strict=True)
    )
    return picture


def _describe_dependency(name: str, moved: Array) -> str:
    own, earlier, later = (
        int(part.sum()) for part in (np.diag(moved), np.tril(moved, -1), np.triu(moved, 1))
    )
    T = len(moved)
    pairs = T * (T - 1) // 2
    return (
        f"{name}: the logits move with their own token at {own} of {T} positions, with an earlier token in "
        f"{earlier} of {pairs} pairs, with a later one in {later} of {pairs}."
    )


def _maps(
    matrices: Array,
    titles: Sequence[str],
    tokens: Sequence[str],
    x_label: str,
    y_label: str,
    bar: Mapping[str, Any] | None = None,
    **look: Any,
) -> Picture:
    """A row of square maps with one colour bar, tokens along both axes where they fit."""
    n = len(titles)
    across, down = min(n, MOST_IN_A_ROW), -(-n // MOST_IN_A_ROW)
    side = min(3.2, 7.2 / across)
    margin, above, below, between, bar_room = 1.1, 0.4, 1.0, 0.12, 1.05
    width = margin + across * side + (across - 1) * between + bar_room
    height = down * (side + above) + below
    with drawing(width, height) as picture:
        for place, (title, matrix) in enumerate(zip(titles, matrices, strict=True)):
            row, column = divmod(place, across)
            left = margin + column * (side + between)
            bottom = below + (down - 1 - row) * (side + above)
            axes = picture.add_axes((left / width, bottom / height, side / width, side / height))
            image = axes.imshow(matrix, **look)
            axes.grid(False)
            axes.set_facecolor(BACKGROUND)
            axes.set_title(title, loc="left", parse_math=False)
            lowest = place + across >= n
            _label_tokens(axes, tokens, rows=column == 0, columns=lowest)
            axes.set_xlabel(x_label if lowest else "")
            axes.set_ylabel(y_label if column == 0 else "")
        left = margin + across * side + (across - 1) * between + 0.12
        tall = height - below - above
        beside = picture.add_axes((left / width, below / height, 0.13 / width, tall / height))
        if bar is None:
            picture.colorbar(image, cax=beside)
        else:
            picture.colorbar(image, cax=beside, ticks=bar["ticks"]).ax.set_yticklabels(bar["labels"])
    return picture


def _label_tokens(axes: Axes, tokens: Sequence[str], rows: bool, columns: bool) -> None:
    """Tokens along the axes that are to have them; their places alone where there are too many."""
    if len(tokens) > MOST_LABELLED:
        axes.tick_params(labelleft=rows, labelbottom=columns)
        return
    shown = [shown_token(token) for token in tokens]
    blank = [""] * len(shown)
    places = range(len(tokens))
    axes.set_xticks(places, shown if columns else blank, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(places, shown if rows else blank, fontsize=8, parse_math=False)


def shown_token(token: str) -> str:
    """A token that can be read on an axis: white space escaped and quoted, long ones shortened."""
    visible = token if token.split() == [token] else repr(token)
    return visible if len(visible) <= LONGEST_LABEL else visible[: LONGEST_LABEL - 1] + "…"
