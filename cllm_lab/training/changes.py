"""Changes planned for a step to come: settings, and the faults that are in the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cllm_lab.training.config import PENALTIES, TrainConfig
from cllm_lab.training.parts import Fault, sort_swaps

CHANGEABLE = (
    "learning_rate", "clip_norm", "min_learning_rate", "schedule", "warmup_steps", "total_steps",
    "optimizer", "momentum", "betas", "epsilon", "weight_decay",
    *(f"{name}_penalty" for name in PENALTIES),
)  # fmt: skip
FAULTS = "faults"
# What these slots hold is used when a trainer is made or an epoch begins, not in a step.
SLOTS_OF_A_START = ("initialisation", "stream", "batches")

Changes = dict[int, dict[str, Any]]


def plan(
    planned: Mapping[int, Mapping[str, Any]],
    step: int,
    changes: Mapping[str, Any],
    config: TrainConfig,
    faults: Sequence[Fault],
) -> Changes:
    """The planned changes with those of one more step, each checked with all before it.

    ``config`` and ``faults`` are what is in force now. Raises ValueError for a setting that cannot change and for
    faults that act only at a start, ConfigError for a value that cannot work, and as `sort_swaps`.
    """
    fixed = sorted(set(changes) - {*CHANGEABLE, FAULTS})
    if fixed or not changes:
        raise ValueError(
            f"cannot change {', '.join(fixed) or 'nothing'}; what can change is {', '.join((*CHANGEABLE, FAULTS))}"
        )
    joined = {number: dict(change) for number, change in planned.items()}
    joined[step] = {**joined.get(step, {}), **changes}
    for number in sorted(joined):
        settings, swapped = split(joined[number])
        config = replace(config, **settings)
        joined[number] = {name: getattr(config, name) for name in settings}
        if swapped is not None:
            _require_no_new_start(faults, swapped)
            joined[number][FAULTS] = faults = tuple(swapped)
    return joined


def split(change: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Fault] | None]:
    """The settings of a change apart from its faults, which are None where it has none."""
    settings = dict(change)
    return settings, settings.pop(FAULTS, None)


def other_machinery(before: TrainConfig, after: TrainConfig) -> bool:
    """Whether a step with other settings is made of other parts, or of another loss."""
    return before.optimizer != after.optimizer or before.penalty_weights != after.penalty_weights


def _require_no_new_start(before: Sequence[Fault], after: Sequence[Fault]) -> None:
    """Initial weights may be forgotten about, since they act no longer; nothing else of a start can change."""
    was, becomes = _swaps_of_a_start(before), _swaps_of_a_start(after)
    late = sorted(slot for slot in becomes if was.get(slot) is not becomes[slot])
    late += sorted(slot for slot in was.keys() - becomes.keys() if slot != "initialisation")
    if late:
        raise ValueError(
            f"faults={[fault.id for fault in after]} change {', '.join(late)}, which acts only when a run starts; "
            "make a new Trainer with them"
        )


def _swaps_of_a_start(faults: Sequence[Fault]) -> dict[str, Any]:
    _, around = sort_swaps(faults)
    return {slot: part for slot, part in around.items() if slot in SLOTS_OF_A_START}
