"""Checkpoints: one safetensors file with its JSON in the metadata, written atomically, resumed bit for bit.

Arrays: parameters, optimizer moments and the history's columns. JSON: configurations, dtype, table of parts,
step, place in the epoch, scheduled changes, fault ids, and the corpus by name or path with its hash. Random
streams are derived from the seed and the step, so they need no state of their own. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cllm_lab.corpus.corpora import corpus_from_description
from cllm_lab.corpus.source import TokenSource
from cllm_lab.files import replacing
from cllm_lab.model.config import ModelConfig, require_count
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import by_name
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.changes import FAULTS, split
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.history import RECORD_FIELDS, Records, StepRecord
from cllm_lab.training.parts import Fault, require_faults, sort_swaps
from cllm_lab.training.trainer import Trainer, TrainerState

FORMAT = "cllm_lab-checkpoint"
VERSION = 3
_KEY = "cllm_lab"


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, comes from a later version, or needs what is not there."""


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Writes the trainer to a file; an existing one is replaced only when the new one is complete.

    Raises CheckpointError for a machine with parts that are in no table, naming the slots; OSError as the
    file system does.
    """
    table = trainer.model.table
    if table not in (by_name("reference"), by_name("fast")):
        raise CheckpointError(f"the parts table {table.name!r} is not one of cllm_lab's, reference and fast")
    swapped = set(trainer.model.swapped_slots())
    model_swaps, _ = sort_swaps(trainer.faults)
    foreign = sorted(swapped - set(model_swaps))
    if foreign:
        raise CheckpointError(
            f"the parts in {', '.join(foreign)} are in no table, so a checkpoint could not name them; "
            "only tables and faults can be saved"
        )
    state = trainer.state()
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "model": asdict(trainer.model.config),
        "model_seed": int(trainer.model.seed),
        "dtype": trainer.model.dtype.name,
        "parts": table.name,
        "train": asdict(state.config),
        "corpus": trainer.corpus.description(),
        "faults": [fault.id for fault in trainer.faults],
        "steps_done": state.steps_done,
        "epochs_done": state.epochs_done,
        "total_steps": state.total_steps,
        "moments_since": state.moments_since,
        "batches_taken": state.batches_taken,
        "changes": {str(step): _with_ids(change) for step, change in state.changes.items()},
    }
    arrays = dict(state.arrays)
    arrays["epoch_step_losses"] = np.array(state.epoch_step_losses, np.float64)
    arrays["epoch_loss"] = np.array(state.epoch_loss, np.float64)
    arrays |= {f"history.{field}": state.records.column(field) for field in RECORD_FIELDS}
    with replacing(path) as unfinished:
        try:
            save_file(arrays, unfinished, {_KEY: json.dumps(metadata)})
        except SafetensorError as failed:
            raise OSError(f"cannot write {path}: {failed}") from failed


def load(
    path: str | os.PathLike[str],
    corpus: TokenSource | None = None,
    faults: Sequence[Fault] = (),
    log: str | os.PathLike[str] | None = None,
    kind: type[Trainer] = Trainer,
) -> Trainer:
    """The trainer that was saved. ``corpus`` replaces the one that the file names; ``faults`` holds, in any order, a
    fault for every id that the file names; ``log`` is where this trainer's steps go on to be written, if anywhere;
    ``kind`` its class.

    Raises FileNotFoundError; CheckpointError for a truncated or foreign file, a later version, faults that are
    missing; CorpusError where the corpus cannot be found again or is another text.
    """
    path = Path(path)
    known = {fault.id: fault for fault in require_faults(faults)}
    arrays, metadata = _read(path)
    try:
        wanted = _fault_ids(metadata)
        description = dict(metadata["corpus"])
        model = Transformer(
            ModelConfig(**metadata["model"]),
            metadata["model_seed"],
            metadata["dtype"],
            by_name(metadata["parts"]),
        )
        if sorted(known) != sorted(wanted):
            raise CheckpointError(
                f"{path} was saved with faults {wanted}; got {[fault.id for fault in faults]}. "
                "Pass fault objects with these ids"
            )
        state = _state(arrays, metadata, known)
    except (KeyError, TypeError, ValueError) as wrong:
        if isinstance(wrong, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: its contents make no trainer ({wrong!r})") from wrong
    if corpus is None:
        corpus = corpus_from_description(description)
    trainer = kind(model, corpus, state.config, state.faults, log)
    try:
        trainer.load_state(state)
    except ValueError as wrong:
        raise CheckpointError(f"{path}: {wrong}") from wrong
    return trainer


def fault_ids(path: str | os.PathLike[str]) -> list[str]:
    """The ids of the faults that a checkpoint needs, in force and planned. Raises as `load` does."""
    _, metadata = _read(Path(path))
    try:
        return _fault_ids(metadata)
    except (KeyError, TypeError, ValueError) as wrong:
        raise CheckpointError(f"{path} is damaged: it does not say its faults ({wrong!r})") from wrong


def _fault_ids(metadata: dict[str, Any]) -> list[str]:
    changes = dict(metadata["changes"]).values()
    planned = [each for change in changes for each in dict(change).get(FAULTS, ())]
    return list(dict.fromkeys([*metadata["faults"], *planned]))


def _with_ids(change: Mapping[str, Any]) -> dict[str, Any]:
    """A planned change with its faults, where it has any, by id."""
    settings, faults = split(change)
    return settings if faults is None else settings | {FAULTS: [fault.id for fault in faults]}


def _with_faults(change: Mapping[str, Any], known: Mapping[str, Fault]) -> dict[str, Any]:
    """The change that `_with_ids` was made from."""
    settings = dict(change)
    if FAULTS in settings:
        settings[FAULTS] = tuple(known[each] for each in settings[FAULTS])
    return settings


def _state(arrays: dict[str, Array], metadata: dict[str, Any], known: Mapping[str, Fault]) -> TrainerState:
    columns = {field: arrays.pop(f"history.{field}").tolist() for field in RECORD_FIELDS}
    columns["validation_loss"] = [None if np.isnan(x) else x for x in columns["validation_loss"]]
    horizon = metadata["total_steps"]
    return TrainerState(
        records=Records(StepRecord(*row) for row in zip(*columns.values(), strict=True)),
        epoch_step_losses=tuple(arrays.pop("epoch_step_losses").tolist()),
        epoch_loss=tuple(arrays.pop("epoch_loss").tolist()),
        arrays=arrays,
        config=TrainConfig(**metadata["train"]),
        steps_done=require_count("steps_done", metadata["steps_done"], 0),
        epochs_done=require_count("epochs_done", metadata["epochs_done"], 0),
        total_steps=None if horizon is None else require_count("total_steps", horizon),
        moments_since=require_count("moments_since", metadata["moments_since"], 0),
        batches_taken=require_count("batches_taken", metadata["batches_taken"], 0),
        changes={
            int(step): _with_faults(change, known) for step, change in dict(metadata["changes"]).items()
        },
        faults=tuple(known[each] for each in metadata["faults"]),
    )


def _read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _metadata(path, (file.metadata() or {}).get(_KEY, ""))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except SafetensorError as broken:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: it is truncated, damaged or something else ({broken})"
        ) from broken


def _metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except json.JSONDecodeError:
        metadata = None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but no checkpoint of cllm_lab; "
            "Trainer.load reads what Trainer.save wrote"
        )
    version = metadata.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version!r}; this library reads up to {VERSION}. "
            "Install a newer cllm_lab"
        )
    if version == 1:  # in which the optimizer could not change
        metadata["moments_since"] = 0
    return metadata
