"""Which position's logits depend on which token."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm_lab.clinic.subject import require_ids, require_logits
from cllm_lab.model.parameters import Array

# Sums of a few hundred rounded numbers differ by some units in the last place when their order changes.
ROUNDING_UNITS = 64


def dependency_matrix(subject: Any, inputs: Any) -> Array:
    """How far the logits at position i move when token j is replaced by another: (T, T), row i, column j.

        D[i, j] = max over windows b and words v of |z'_biv - z_biv|,   z' with token j of every window replaced

    The other token is the next id, (token + 1) mod V; where that moves too little to be seen at j or after it, two
    further ids are tried and the largest move counts. ``subject`` needs no more than ``forward``; inputs: token
    ids of one window (T,) or of several (B, T). Moves up to 64 rounding units of the largest logit are rounding,
    and 0; a move that is not finite is infinite.

    A causal machine has D = 0 above the diagonal; one that looks at no other token has D = 0 off it.
    Raises TypeError or ValueError for other inputs, and for logits of another shape.
    """
    windows = require_windows(inputs)
    same = logits_of(subject, windows)
    V = same.shape[-1]
    floor = rounding_floor(same)
    T = windows.shape[1]
    moves = np.zeros((T, T))
    for j in range(T):
        for offset in _offsets(V):
            changed = windows.copy()
            changed[:, j] = (changed[:, j] + offset) % V
            moved = largest_moves(same, logits_of(subject, changed))
            moves[:, j] = np.maximum(moves[:, j], np.where(moved > floor, moved, 0.0))
            if np.all(moves[j:, j] > 0.0):
                break
    return moves


def require_windows(inputs: Any) -> Array:
    """Token ids (B, T), of one window (T,) as well. Raises TypeError or ValueError as `require_ids`."""
    return require_ids("inputs", [inputs] if np.ndim(inputs) == 1 else inputs)


def logits_of(subject: Any, windows: Array) -> Array:
    """A copy of the logits (B, T, V) of token ids (B, T), in their own dtype."""
    logits = require_logits(subject.forward(windows).logits, windows.shape)
    return logits.copy()


def largest_moves(before: Array, after: Array) -> Array:
    """At every position the largest move of any logit in any window, (T,); infinite where one is not finite."""
    with np.errstate(invalid="ignore"):
        moved = np.abs(after.astype(np.float64) - before).max(axis=(0, 2))
    return np.where(np.isnan(moved), np.inf, moved)


def rounding_floor(logits: Array) -> float:
    """Moves of logits up to this are rounding."""
    largest = np.abs(logits, where=np.isfinite(logits), out=np.zeros_like(logits)).max()
    return ROUNDING_UNITS * float(np.finfo(logits.dtype).eps) * float(largest)


def _offsets(V: int) -> list[int]:
    """Distances from a token to the others that stand in for it, none of them 0 modulo V."""
    return sorted({1, V // 2, V - 1} - {0})
