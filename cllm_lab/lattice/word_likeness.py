"""Are the words that are neighbours on the golden spiral more alike than others? A measurement with two controls.

Two words are alike by the cosine of their contexts: how often each word of the text stands right before them, and how
often right after. The mean likeness of every word to its k nearest on the spiral is held against two controls.
"Shuffled" deals the words out to the places at random, which destroys the order of the vocabulary; "turned" takes
another angle than the golden one, which keeps that order. What only the first is below is the order's, not the angle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import whole_number
from cllm_lab.lattice.arguments import FloatArray, IntArray, integer_array, within
from cllm_lab.lattice.neighbours import nearest_neighbours
from cllm_lab.lattice.phase import GOLDEN_ANGLE
from cllm_lab.lattice.spirals import LARGEST_NUMBER
from cllm_lab.streams import stream

NEIGHBOURS = (2, 3, 4, 6, 8, 12)
# First index of stream(seed, "lattice", ...): 0 and 1 are those of token_features.py, 2 that of locality.py.
_DRAWS = 3
_SHUFFLES, _TURNS = 0, 1


@dataclass(frozen=True)
class NeighbourLikeness:
    """Mean likeness of words to their nearest, for each number k in ``neighbours``.

    ``golden`` (K,): on the golden spiral. ``shuffled``, ``turned`` (draws, K): one row for each draw of a control.
    """

    neighbours: tuple[int, ...]
    golden: FloatArray
    shuffled: FloatArray
    turned: FloatArray

    def p_values(self, control: Literal["shuffled", "turned"]) -> FloatArray:
        """(1 + draws that are as large as the golden spiral or larger) / (1 + draws), (K,): one test for each k.

        Raises ValueError for another control.
        """
        if control not in ("shuffled", "turned"):
            raise ValueError(f"control must be 'shuffled' or 'turned'; got {control!r}")
        draws = self.shuffled if control == "shuffled" else self.turned
        return np.asarray((1 + (draws >= self.golden).sum(axis=0)) / (1 + len(draws)))

    def stands_out(self, control: Literal["shuffled", "turned"], level: float = 0.05) -> list[int]:
        """The numbers of neighbours whose p-value is below ``level``, each for itself. Raises as `p_values`."""
        return [k for k, p in zip(self.neighbours, self.p_values(control), strict=True) if p < level]


def neighbour_likeness(
    tokens: ArrayLike, neighbours: Sequence[int] = NEIGHBOURS, draws: int = 200, seed: int = 0
) -> NeighbourLikeness:
    """The words of a text, ids ``tokens`` (N,), against their nearest on the spiral, with ``draws`` of either control.

    Place of id n: radius sqrt(n), angle n times the golden angle, height ln(n + 1), as `spiral_position`; "turned"
    draws the angle between two numbers evenly from [0, 2 pi). Ids that do not occur have no place. Means are over words
    and neighbours.

    Raises TypeError unless all are integers, ValueError for tokens as `context_likeness`, for no number of neighbours,
    one below 1 or above the other words, and for draws below 1.
    """
    ids, alike = context_likeness(tokens)
    if not len(neighbours):
        raise ValueError("neighbours is empty; give at least one number")
    where = ", the number of other words"
    counts = tuple(within("neighbours", k, 1, ids.size - 1, where) for k in neighbours)
    times = whole_number("draws", draws, 1)
    shuffles, turns = (stream(seed, "lattice", _DRAWS, control) for control in (_SHUFFLES, _TURNS))
    as_it_is = np.arange(ids.size)
    golden = _nearest(ids, GOLDEN_ANGLE, max(counts))

    def mean(near: IntArray, order: IntArray) -> FloatArray:
        by_rank = alike[order[:, None], order[near]].mean(axis=0)
        of_nearest: FloatArray = np.cumsum(by_rank) / np.arange(1, by_rank.size + 1)
        return of_nearest[np.array(counts) - 1]

    return NeighbourLikeness(
        neighbours=counts,
        golden=mean(golden, as_it_is),
        shuffled=np.array([mean(golden, shuffles.permutation(ids.size)) for _ in range(times)]),
        turned=np.array(
            [
                mean(_nearest(ids, turn, max(counts)), as_it_is)
                for turn in turns.uniform(0.0, 2.0 * np.pi, times)
            ]
        ),
    )


def context_likeness(tokens: ArrayLike) -> tuple[IntArray, FloatArray]:
    """The ids that occur in a text, (W,) ascending, and how alike each two are: cosines of their contexts, (W, W).

    The context of a word: how often each word follows it, and how often each precedes it, 2 W counts.

    Raises TypeError unless ``tokens`` holds integers, ValueError below 0, for another shape than (N,) and for less than
    two tokens.
    """
    text = integer_array("tokens", tokens, 0, LARGEST_NUMBER)
    if text.ndim != 1 or text.size < 2:
        raise ValueError(f"tokens must have shape (N,), N at least 2; got {text.shape}")
    ids, text = np.unique(text, return_inverse=True)
    contexts = np.zeros((ids.size, 2 * ids.size))
    np.add.at(contexts, (text[:-1], text[1:]), 1.0)
    np.add.at(contexts, (text[1:], ids.size + text[:-1]), 1.0)
    unit = contexts / np.linalg.norm(contexts, axis=1, keepdims=True)
    return ids, unit @ unit.T


def _nearest(ids: IntArray, turn: float, k: int) -> IntArray:
    """The k nearest to each id (W, k), as places in ``ids``, on a spiral that turns by ``turn`` radians a number."""
    radius, angle = np.sqrt(ids), turn * ids
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.log1p(ids)], axis=-1)
    return nearest_neighbours(points, k)[0]
