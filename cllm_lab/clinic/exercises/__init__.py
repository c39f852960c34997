"""The exercises of the notebooks: functions to be written by hand, and the check that judges them.

Each module here holds those of one subject, as a tuple ``EXERCISES``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cllm_lab.clinic.exercises import (
    attention_gradient,
    attention_weights,
    backward_passes,
    constant_loss,
    data_checks,
    fixed_point,
    ignored_model,
    instruments,
    lattice_bias,
    no_attention,
    other_loss,
    partial_training,
    repair_order,
    size_reduction,
    step_size,
    verdicts,
)
from cllm_lab.clinic.judging import Verdict, judge

_SUBJECTS = (
    backward_passes,
    constant_loss,
    ignored_model,
    partial_training,
    other_loss,
    instruments,
    step_size,
    fixed_point,
    repair_order,
    attention_gradient,
    no_attention,
    attention_weights,
    data_checks,
    verdicts,
    size_reduction,
    lattice_bias,
)
EXERCISES = {exercise.name: exercise for subject in _SUBJECTS for exercise in subject.EXERCISES}


def check_exercise(name: str, function: Callable[..., Any]) -> Verdict:
    """Tries a function at random float64 points and says what became of it, in a line or two.

    NOT ATTEMPTED where the function raises NotImplementedError or returns None; FAIL with the name of the
    mistake where it is one of the common ones, else with the shape, the value or the exception that is wrong;
    PASS where every result agrees with the right answer to 1e-9 of its largest number. Where the function
    raised, ``verdict.error`` is the exception itself.

    Raises ValueError, listing the exercises, for a name that is none of them, TypeError where ``function``
    cannot be called.
    """
    if name not in EXERCISES:
        raise ValueError(f"no exercise {name!r}; the exercises are {', '.join(EXERCISES)}")
    if not callable(function):
        raise TypeError(
            f"function must be the function itself, such as my_backward without brackets; got {type(function).__name__}"
        )
    return judge(EXERCISES[name], function)
