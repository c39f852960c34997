"""What the lattice says of every two tokens of a sentence, under several lattices, feature by feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike, NDArray

from cllm_lab.lattice.token_features import PAIR_FEATURES, TokenLattice
from cllm_lab.views.heatmaps import BACKGROUND, shown_token
from cllm_lab.views.picture import Picture, drawing

MOST_TOKENS = 16
MOST_LATTICES = 4
SIDE = 1.5
# Relative spread below which values count as equal.
ROUNDING = 1e-9

Table = NDArray[np.float64]


def token_pair_maps(tokens: ArrayLike, names: Sequence[str], lattices: Mapping[str, TokenLattice]) -> Picture:
    """`TokenLattice.pairs` of a sentence: a column a feature, a row a lattice; in each, row i looks at column j <= i.

    ``tokens``: ids (T,), ``names`` the same as text. Each column has its own colours. A map that would repeat the first
    of its column is left out; the words compare the others with the first.
    Raises ValueError for no or too many tokens or lattices, another number of names, and as `TokenLattice.pairs`.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not 1 < ids.size <= MOST_TOKENS:
        raise ValueError(f"tokens must be 2 to {MOST_TOKENS} ids, shape (T,); got shape {ids.shape}")
    if len(names) != ids.size:
        raise ValueError(f"names must be the {ids.size} tokens as text; got {len(names)}")
    if not 1 <= len(lattices) <= MOST_LATTICES:
        raise ValueError(f"lattices must be 1 to {MOST_LATTICES}, a row each; got {len(lattices)}")
    tables = {
        feature: _different({name: each.pairs(feature, ids) for name, each in lattices.items()})
        for feature in PAIR_FEATURES
    }
    picture = _drawn(tables, list(lattices), names)
    picture.words = "\n".join(_describe(feature, maps, ids) for feature, maps in tables.items())
    return picture


def _different(maps: Mapping[str, Table]) -> dict[str, Table]:
    """The first map, and of the others those that differ from it."""
    first = next(iter(maps.values()))
    return {name: table for name, table in maps.items() if table is first or not np.array_equal(table, first)}


def _drawn(
    tables: Mapping[str, Mapping[str, Table]], lattices: Sequence[str], names: Sequence[str]
) -> Picture:
    left, above, between, below = 1.15, 0.3, 0.12, 1.2
    width = left + len(tables) * (SIDE + between)
    height = above + len(lattices) * (SIDE + between) + below
    with drawing(width, height) as picture:
        for column, (feature, maps) in enumerate(tables.items()):
            x = left + column * (SIDE + between)
            visible = np.concatenate([_visible(table) for table in maps.values()])
            norm = Normalize(visible.min(), visible.max())
            last = list(maps)[-1]
            for row, lattice in enumerate(lattices):
                if lattice not in maps:
                    continue
                y = height - above - (row + 1) * SIDE - row * between
                axes = picture.add_axes((x / width, y / height, SIDE / width, SIDE / height))
                hidden = np.triu(np.ones(maps[lattice].shape, dtype=bool), 1)
                image = axes.imshow(np.ma.array(maps[lattice], mask=hidden), norm=norm, cmap="viridis")
                axes.set_facecolor(BACKGROUND)
                axes.set_title(feature if row == 0 else "", loc="left", fontsize=10)
                axes.set_ylabel(lattice if column == 0 else "", parse_math=False)
                _label(axes, names, rows=column == 0, columns=lattice == last)
            beside = picture.add_axes(((x + 0.1) / width, 0.32 / height, (SIDE - 0.2) / width, 0.1 / height))
            bar = picture.colorbar(image, cax=beside, orientation="horizontal")
            bar.ax.tick_params(labelsize=8)
            bar.ax.locator_params(nbins=3)
    return picture


def _label(axes: Axes, names: Sequence[str], rows: bool, columns: bool) -> None:
    shown = [shown_token(name) for name in names]
    blank = [""] * len(shown)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(shown)), shown if columns else blank, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(shown)), shown if rows else blank, fontsize=7, parse_math=False)


def _visible(table: Table) -> Table:
    return table[np.tri(len(table), dtype=bool)]


def _describe(feature: str, maps: Mapping[str, Table], ids: NDArray[np.int64]) -> str:
    """The values for the same and for different tokens, and how the other maps agree with the first on the latter."""
    earlier = np.tri(len(ids), k=-1, dtype=bool)
    different = earlier & (ids[:, None] != ids)
    (name, first), *others = maps.items()
    same = np.unique(first[np.tri(len(ids), dtype=bool) & ~different].round(2)) + 0.0
    text = f"{feature}: {_range(same)} for a token and itself"
    if different.any():
        text += f", {_range(first[different])} for different ones"
    for other, table in others:
        text += f"; correlation of {name} and {other}: {_correlation(first[different], table[different])}"
    return text + "."


def _range(values: Table) -> str:
    low, high = f"{values.min():.2g}", f"{values.max():.2g}"
    return low if low == high else f"{low} to {high}"


def _correlation(a: Table, b: Table) -> str:
    """Pearson's, or why there is none."""
    for values in (a, b):
        if values.size < 2 or values.std() <= ROUNDING * np.abs(values).max():
            return "none, one is constant"
    # + 0.0 makes -0.0 and 0.0 one.
    return f"{np.corrcoef(a, b)[0, 1].round(2) + 0.0:.2f}"
