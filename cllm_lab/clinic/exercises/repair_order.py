"""An exercise on repairs: what each one does alone, and what it is worth among all the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cllm_lab.clinic.judging import Exercise, Mistake
from cllm_lab.model.parameters import Array

Cases = Iterator[tuple[Array, ...]]


def repair_effects(losses: Array) -> tuple[Array, Array]:
    """(alone, left_out), each (n,), in nats, from losses (2,) * n: axis i is 1 where repair i is made.

        alone[i]    = L(none made) - L(i made)
        left_out[i] = L(all made but i) - L(all made)

    Above 0 the repair lowers the loss: alone in the broken machine, or as the last one of all.
    """
    n = losses.ndim
    only = np.eye(n, dtype=int)
    none_made, all_made = losses[(0,) * n], losses[(1,) * n]
    alone = np.array([none_made - losses[tuple(row)] for row in only])
    left_out = np.array([losses[tuple(1 - row)] - all_made for row in only])
    return alone, left_out


def _tables(rng: np.random.Generator) -> Cases:
    """Losses of every combination, different everywhere, with repairs that help, hurt and do nothing alone."""
    for n in (3, 4, 2):
        losses = rng.uniform(1.0, 9.0, (2,) * n)
        # One repair that alone does nothing, as most of the documents' did.
        losses[tuple(np.eye(n, dtype=int)[0])] = losses[(0,) * n]
        yield (losses,)


def _mean_effects(losses: Array) -> dict[str, Array]:
    effects = np.array(
        [(losses.take(0, axis=axis) - losses.take(1, axis=axis)).mean() for axis in range(losses.ndim)]
    )
    return {"alone": effects, "left_out": effects}


def _in_sequence(losses: Array) -> dict[str, Array]:
    """Each repair after those before it."""
    n = losses.ndim
    stages = [losses[(1,) * made + (0,) * (n - made)] for made in range(n + 1)]
    steps = -np.diff(stages)
    return {"alone": steps, "left_out": steps}


def _swapped(losses: Array) -> dict[str, Array]:
    alone, left_out = repair_effects(losses)
    return {"alone": left_out, "left_out": alone}


def _other_sign(losses: Array) -> dict[str, Array]:
    alone, left_out = repair_effects(losses)
    return {"alone": -alone, "left_out": -left_out}


def _against_the_other_end(losses: Array) -> dict[str, Array]:
    """Levels in the place of differences from the right machine."""
    n = losses.ndim
    gap = losses[(0,) * n] - losses[(1,) * n]
    alone, left_out = repair_effects(losses)
    return {"alone": gap - alone, "left_out": gap - left_out}


REPAIR_EFFECTS = Exercise(
    name="repair-effects",
    parameters=("losses",),
    returns=("alone", "left_out"),
    asked="By how much each repair lowers the loss alone, and by how much its absence raises it among all others.",
    inputs=_tables,
    solution=repair_effects,
    mistakes=(
        Mistake(
            "the sign: a repair that lowers the loss has an effect above 0, before minus after", _other_sign
        ),
        Mistake("the two are exchanged: alone begins at none made, left_out at all made", _swapped),
        Mistake(
            "this is the mean over all combinations of the others: it hides that a repair does nothing alone",
            _mean_effects,
        ),
        Mistake(
            "this is the effect of each repair after those before it: another order would give other numbers",
            _in_sequence,
        ),
        Mistake(
            "compared with the wrong machine: alone is held against none made, left_out against all made",
            _against_the_other_end,
        ),
    ),
)

EXERCISES = (REPAIR_EFFECTS,)
