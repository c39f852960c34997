"""An exercise on step sizes: clipping a gradient by its global norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def clip_by_global_norm(dw: Array, db: Array, clip_norm: Array) -> tuple[Array, Array]:
    """(s dw, s db),  s = min(1, clip_norm / |g|),  |g|^2 = sum dw^2 + sum db^2. Pascanu et al. 2013, algorithm 1."""
    norm = np.sqrt(np.sum(dw**2) + np.sum(db**2))
    scale = clip_norm / norm if norm > clip_norm else 1.0
    return scale * dw, scale * db


def _gradients(rng: np.random.Generator) -> Cases:
    """Long, shorter than clip_norm, with a part that is shorter alone, and 0."""
    for length, clip_norm in ((9.0, 1.0), (0.3, 0.8), (1.0, 0.7)):
        dw, db = rng.standard_normal((4, 3)), rng.standard_normal(3)
        whole = np.sqrt(np.sum(dw**2) + np.sum(db**2))
        yield length / whole * dw, length / whole * db, np.array(clip_norm)
    yield np.zeros((2, 3)), np.zeros(3), np.array(1.0)


def _scaled(by: Callable[[Array, Array, Array], float | Array]) -> Callable[..., dict[str, Array]]:
    """Both gradients times what ``by`` gives for (dw, db, clip_norm)."""

    def outputs(dw: Array, db: Array, clip_norm: Array) -> dict[str, Array]:
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = by(dw, db, clip_norm)
            return {"clipped_dw": scale * dw, "clipped_db": scale * db}

    return outputs


def _each(by: Callable[[Array, Array], Array]) -> Callable[..., dict[str, Array]]:
    """Each gradient by itself, ``by`` (gradient, clip_norm)."""

    def outputs(dw: Array, db: Array, clip_norm: Array) -> dict[str, Array]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"clipped_dw": by(dw, clip_norm), "clipped_db": by(db, clip_norm)}

    return outputs


def _square(dw: Array, db: Array) -> Array:
    return np.sum(dw**2) + np.sum(db**2)


CLIP_BY_GLOBAL_NORM = Exercise(
    name="clip-by-global-norm",
    parameters=("dw", "db", "clip_norm"),
    returns=("clipped_dw", "clipped_db"),
    asked="Both gradients times min(1, clip_norm / |g|), |g| the Euclidean norm of all their entries together.",
    inputs=_gradients,
    solution=clip_by_global_norm,
    mistakes=(
        Mistake(
            "each tensor was clipped by its own norm, which turns the step; one factor serves all tensors",
            _each(lambda g, c: g * np.minimum(1.0, c / np.linalg.norm(g))),
        ),
        Mistake(
            "every entry was clipped by itself, which turns the step; clipping by the norm keeps its direction",
            _each(lambda g, c: np.clip(g, -c, c)),
        ),
        Mistake("nothing was clipped: the gradient is longer than clip_norm", _scaled(lambda dw, db, c: 1.0)),
        Mistake(
            "0 / 0: a gradient of zeros has norm 0, and must stay as it is",
            _scaled(lambda dw, db, c: np.minimum(np.sqrt(_square(dw, db)), c) / np.sqrt(_square(dw, db))),
        ),
        Mistake(
            "a gradient shorter than clip_norm was stretched to it: the factor is at most 1",
            _scaled(lambda dw, db, c: c / np.sqrt(_square(dw, db))),
        ),
        Mistake(
            "the norm lacks its square root",
            _scaled(lambda dw, db, c: np.minimum(1.0, c / _square(dw, db))),
        ),
        Mistake(
            "the norms of the tensors were added; their squares add up, under one root",
            _scaled(lambda dw, db, c: np.minimum(1.0, c / (np.linalg.norm(dw) + np.linalg.norm(db)))),
        ),
        Mistake(
            "the largest entry was taken for the norm",
            _scaled(lambda dw, db, c: np.minimum(1.0, c / max(np.abs(dw).max(), np.abs(db).max()))),
        ),
        Mistake(
            "the norm is that of dw alone",
            _scaled(lambda dw, db, c: np.minimum(1.0, c / np.linalg.norm(dw))),
        ),
        Mistake(
            "the factor is that of a norm with 1e-6 added, as in many libraries; here the norm itself is asked",
            _scaled(lambda dw, db, c: np.minimum(1.0, c / (np.sqrt(_square(dw, db)) + 1e-6))),
        ),
    ),
)

EXERCISES = (CLIP_BY_GLOBAL_NORM,)
