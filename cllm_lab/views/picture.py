"""The figure that every view returns, and the one place where its looks are decided.

Nothing here touches pyplot or leaves matplotlib's settings changed: a figure belongs to whoever asked for it.
"""

from __future__ import annotations

import io
import os
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import isotonic_regression

from cllm_lab.files import replacing

DPI = 100
WORDS_WIDTH = 100
MOST_COLOURS = 256
# Petroff (2021), six of the ten colours, told apart by colour-blind eyes too; the lighter four are
# hard to read as the text of a label.
COLOURS = [matplotlib.color_sequences["petroff10"][place] for place in (0, 2, 4, 6, 5, 8)]
STROKES = ("-", "--", "-.", ":")
REFERENCE_COLOUR = "0.4"
# Behind words that stand over lines.
GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
LABEL_GAP = 13.0
LABEL_SHIFT = 10.0

SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": DPI,
    "font.size": 10.0,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # The same picture gives the same SVG; its words stay words, for a reader as for a search.
    "svg.fonttype": "none",
    "svg.hashsalt": "cllm_lab",
    "text.usetex": False,
}
# matplotlib's settings belong to the process: of two threads that changed them and put them back, one would put back
# what the other had set.
_looks_lock = threading.RLock()


class Picture(Figure):
    """A matplotlib figure that says in words what it shows.

    ``words`` is computed from what was drawn. Jupyter shows the picture and prints the words under it; they
    are the picture's alternative text as well.
    """

    words: str = ""

    def png(self) -> bytes:
        """The picture as a PNG at 100 dots an inch and of 256 colours, a third as large as one of all colours."""
        drawn, reduced = io.BytesIO(), io.BytesIO()
        with _looks():
            self.savefig(drawn, format="png", dpi=DPI)
        picture = Image.open(drawn).convert("RGB")
        picture.quantize(MOST_COLOURS, dither=Image.Dither.NONE).save(reduced, "PNG", optimize=True)
        return reduced.getvalue()

    def svg(self) -> str:
        """The picture as SVG, its words as <title> (their first line) and <desc> (all)."""
        drawn = io.BytesIO()
        with _looks():
            self.savefig(drawn, format="svg", metadata={"Date": None})
        opening, tag, inside = drawn.getvalue().decode().partition("<svg")
        attributes, end, rest = inside.partition(">")
        words = escape(self.words)
        title = words.partition("\n")[0]
        described = f'role="img"{end}\n <title>{title}</title>\n <desc>{words}</desc>'
        return f"{opening}{tag}{attributes} {described}{rest}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the SVG where the name ends in .svg, else the PNG; an existing file is replaced only when the new
        one is complete."""
        contents = self.svg().encode() if Path(path).suffix == ".svg" else self.png()
        with replacing(path) as unfinished:
            unfinished.write_bytes(contents)

    def __repr__(self) -> str:
        return f"Picture({self.words!r})"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data = {"image/png": self.png(), "text/plain": "picture"}
        display(data, metadata={"image/png": {"alt": self.words}}, raw=True)
        print(wrapped(self.words))


@contextmanager
def drawing(width: float, height: float) -> Iterator[Picture]:
    """A new picture of so many inches; what is drawn inside the block has this library's looks."""
    with _looks():
        yield Picture(figsize=(width, height))


@contextmanager
def _looks() -> Iterator[None]:
    """This library's looks, whatever a person's own settings are, which are back afterwards; a thread at a time."""
    with _looks_lock, matplotlib.style.context(["default", SETTINGS]):
        yield


def wrapped(words: str) -> str:
    """The words in lines of at most 100 characters; line ends stay."""
    return "\n".join(textwrap.fill(line, WORDS_WIDTH) for line in words.split("\n"))


def stroke(place: int) -> dict[str, Any]:
    """Colour and line style of the series at this place: neighbours differ in both."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": STROKES[place % len(STROKES)]}


def label_at_right(axes: Axes, labels: Sequence[tuple[float, str, Any]]) -> None:
    """Writes each (y, text, colour) to the right of the axes at its height, moved where two would overlap.

    A thin line joins a label that was moved with its height. The limits of the axes must be final.
    """
    if not labels:
        return
    heights = axes.transData.transform([(axes.get_xlim()[1], y) for y, _, _ in labels])[:, 1]
    places = spread(heights, LABEL_GAP * DPI / 72.0)
    for (y, text, colour), height, place in zip(labels, heights, places, strict=True):
        axes.annotate(
            text,
            xy=(1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(LABEL_SHIFT, (place - height) * 72.0 / DPI),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )


def spread(positions: Sequence[float] | np.ndarray, gap: float) -> np.ndarray:
    """The positions, at least ``gap`` apart and in their order, with the least sum of squared moves.

    With y_k the k-th smallest, x_k = k gap + z_k where z is the isotonic regression of y_k - k gap
    (Barlow et al. 1972).
    """
    given = np.asarray(positions, float)
    order = np.argsort(given, kind="stable")
    steps = gap * np.arange(given.size)
    placed = np.empty_like(given)
    placed[order] = isotonic_regression(given[order] - steps).x + steps
    return placed
