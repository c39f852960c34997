"""Charts of primes: the gaps between them, and what the three maps from token ids to primes give."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm_lab.lattice.historical import LAST_DIVISOR, RESIDUES_MOD_30, historical_primes
from cllm_lab.lattice.primes import IntArray, primes_below
from cllm_lab.lattice.token_primes import TOKEN_PRIMES
from cllm_lab.views.lines import draw_lines, label_y_axis
from cllm_lab.views.number_kinds import WHEEL, within
from cllm_lab.views.picture import COLOURS, Picture, drawing, stroke

LEAST_LIMIT = 1_000
LARGEST_LIMIT = 10**7
STRETCHES = 25
LARGEST_ID_COUNT = 100_000
CLOSE_UP = 30


def prime_gaps(limit: int = 200_000) -> Picture:
    """Gaps between neighbours up to ``limit``, of the primes and of the original's list: how often each, the mean.

    Two references: the mean gap ln n of the primes near n (prime number theorem), and `sieved_gap`, the gap that trial
    division to 61 leaves on average, without the spoke of the wheel of 30 that the list does not ask for.
    Raises TypeError unless ``limit`` is an integer, ValueError outside `LEAST_LIMIT` to `LARGEST_LIMIT`.
    """
    limit = within("limit", limit, LEAST_LIMIT, LARGEST_LIMIT)
    lists = {"primes": primes_below(limit + 1), "the list": historical_primes(limit)}
    gaps = {name: np.diff(numbers) for name, numbers in lists.items()}
    edges = np.linspace(0, limit, STRETCHES + 1)
    middles = (edges[:-1] + edges[1:]) / 2.0
    lines = {name: (middles, mean_gaps(numbers, edges)) for name, numbers in lists.items()}
    lines["ln n"] = (middles, np.log(middles))
    all_spokes = sieved_gap(set(wheel_spokes()))
    left_over = sieved_gap(set(RESIDUES_MOD_30))
    lost = ", ".join(str(spoke) for spoke in wheel_spokes() if spoke not in RESIDUES_MOD_30)
    with drawing(9.8, 4.1) as picture:
        counts = picture.add_axes((0.08, 0.14, 0.33, 0.75))
        for place, (name, found) in enumerate(gaps.items()):
            sizes, times = np.unique(found[found > 1], return_counts=True)
            counts.plot(sizes, times, marker="os"[place], markersize=3.0, label=name, **stroke(place))
        counts.axvline(
            gaps["primes"].mean(),
            color=COLOURS[0],
            linewidth=1.0,
            linestyle=(0, (1, 2)),
            label="mean of primes",
        )
        counts.set(xlabel="gap to the next", yscale="log", ylabel="how often")
        counts.set_title("Gaps", loc="left")
        counts.legend()
        along = picture.add_axes((0.5, 0.14, 0.29, 0.75))
        along.set(xlabel="n")
        label_y_axis(along, "mean gap near n")
        along.set_title("Mean gap", loc="left")
        draw_lines(along, lines, {f"to {LAST_DIVISOR}, without spoke {lost}": left_over}, {})
        along.set_xticks([0, limit // 2, limit])
    picture.words = (
        f"Up to {limit}: {lists['primes'].size} primes with a mean gap of {gaps['primes'].mean():.2f}, "
        f"{lists['the list'].size} entries of the list with {gaps['the list'].mean():.2f}. Commonest gap: "
        f"{_commonest(gaps['primes'])} between primes, {_commonest(gaps['the list'])} in the list.\n"
        f"In the last of {STRETCHES} stretches the primes' mean gap is {lines['primes'][1][-1]:.1f}, ln n "
        f"{lines['ln n'][1][-1]:.1f}; the list's is {lines['the list'][1][-1]:.1f}. What no prime to "
        f"{LAST_DIVISOR} divides is {all_spokes:.1f} apart, without spoke {lost} {left_over:.1f}."
    )
    return picture


def mean_gaps(numbers: IntArray, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The width of each stretch between edges over how many of the ascending numbers lie in it."""
    widths: NDArray[np.float64] = np.diff(edges)
    return widths / np.diff(np.searchsorted(numbers, edges, side="right"))


def wheel_spokes() -> list[int]:
    """The remainders mod 30 that share no factor with 30: all that a prime above 5 can have."""
    return [r for r in range(WHEEL) if math.gcd(r, WHEEL) == 1]


def sieved_gap(admitted: Set[int]) -> float:
    """The mean gap of the numbers that no prime <= 61 divides and whose remainder mod 30 is ``admitted``.

    1 / (share prod(1 - 1/q)) over the primes q <= 61, with the share of `wheel_spokes` that is admitted.
    """
    share = sum(r in admitted for r in wheel_spokes()) / len(wheel_spokes())
    return 1.0 / (share * math.prod(1.0 - 1.0 / q for q in primes_below(LAST_DIVISOR + 1).tolist()))


def token_prime_maps(n_ids: int = 10_000) -> Picture:
    """The primes of the token ids 0, ..., n_ids - 1 under the three maps, and the first 30 ids closer up.

    Rings in the close-up: ids whose prime an earlier id of the same map has already.
    Raises TypeError unless ``n_ids`` is an integer, ValueError outside `CLOSE_UP` to `LARGEST_ID_COUNT`.
    """
    ids = np.arange(within("n_ids", n_ids, CLOSE_UP, LARGEST_ID_COUNT))
    primes = {name: of(ids) for name, of in TOKEN_PRIMES.items()}
    with drawing(9.8, 4.1) as picture:
        close = picture.add_axes((0.08, 0.14, 0.33, 0.75))
        whole = picture.add_axes((0.52, 0.14, 0.36, 0.75))
        for place, (name, values) in enumerate(primes.items()):
            look = stroke(place)
            first = values[:CLOSE_UP]
            # A line that coincides with a later one shows on both sides of it.
            wide: dict[str, Any] = {"linewidth": 6.0, "alpha": 0.35} if place == 1 else {}
            close.plot(ids[:CLOSE_UP], first, label=name, **look, **wide)
            again = repeated(first)
            close.plot(
                ids[:CLOSE_UP][again], first[again], "o", color=look["color"], fillstyle="none", markersize=10
            )
        close.set(xlabel="token id", ylabel="prime")
        close.set_title(f"The first {CLOSE_UP}; rings: taken already", loc="left", fontsize=10.0)
        close.legend()
        whole.set(xlabel="token id")
        whole.set_title("All", loc="left", fontsize=10.0)
        draw_lines(whole, {name: (ids, values) for name, values in primes.items()}, {}, {})
        whole.set_xticks([0, ids.size // 2, ids.size])
    picture.words = "\n".join(
        f"{name}: {np.unique(values).size} primes for {ids.size} ids, the largest {values.max()}; "
        f"{int(repeated(values).sum())} ids have a prime that an earlier one has."
        for name, values in primes.items()
    )
    return picture


def repeated(values: IntArray) -> NDArray[np.bool_]:
    """Whether each value stands earlier in the array as well."""
    again = np.ones(values.size, np.bool_)
    again[np.unique(values, return_index=True)[1]] = False
    return again


def _commonest(gaps: IntArray) -> int:
    return int(np.bincount(gaps).argmax())
