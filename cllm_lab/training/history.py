"""What a run leaves behind: a record per optimizer step, and the same as JSON lines in a file."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from cllm_lab.model.parameters import Array

if TYPE_CHECKING:
    import pandas

LOG_FORMAT = "cllm_lab-log"
LOG_VERSION = 1


class LogError(ValueError):
    """A file that is no log of this library, or one of a version it does not know."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step. ``step`` and ``epoch`` count from 1; ``loss`` and ``validation_loss`` in nats.

    ``loss`` was taken before the update. Norms are Euclidean, of the gradients before clipping.
    ``update_ratio`` is |update| / |parameters| over the tensors that the optimizer updates (infinite where they
    were all 0 and moved).
    ``validation_loss`` is None where it was not taken. ``tokens`` were seen in ``seconds``.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    update_ratio: float
    grad_norm_embedding: float
    grad_norm_attention: float
    grad_norm_ff: float
    grad_norm_ln: float
    tokens: int
    seconds: float
    validation_loss: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Speed of this step."""
        return self.tokens / self.seconds if self.seconds > 0.0 else math.inf


RECORD_FIELDS = tuple(field.name for field in fields(StepRecord))
WHOLE_FIELDS = ("step", "epoch", "tokens")


class Records(Sequence[StepRecord]):
    """Step records in columns of numbers: a hundred bytes each, so that a run may go on for days.

    `column` gives a field of all as an array; a ``validation_loss`` that was not taken is NaN there and None in its
    record. One thread may append while others read: they see the records that were complete.
    """

    def __init__(self, records: Iterable[StepRecord] = ()) -> None:
        self._columns: dict[str, Any] = {
            field: array("q" if field in WHOLE_FIELDS else "d") for field in RECORD_FIELDS
        }
        self._validated = array("b")
        for record in records:
            self.append(record)

    def append(self, record: StepRecord) -> None:
        """Takes in one more record."""
        for field, column in self._columns.items():
            value = getattr(record, field)
            column.append(math.nan if value is None else value)
        # Last, since this is what counts the records.
        self._validated.append(record.validation_loss is not None)

    def set_validation_loss(self, loss: float) -> None:
        """Gives the last record its validation loss."""
        self._columns["validation_loss"][-1] = loss
        self._validated[-1] = True

    def copy(self) -> Records:
        """The same records, in columns of their own."""
        twin, count = Records(), len(self)
        twin._columns = {field: column[:count] for field, column in self._columns.items()}
        twin._validated = self._validated[:count]
        return twin

    def column(self, field: str) -> Array:
        """A field of all records, in a copy; int64 or float64."""
        return np.array(self._columns[field][: len(self)])

    def __len__(self) -> int:
        return len(self._validated)

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[StepRecord]: ...

    def __getitem__(self, index: int | slice) -> StepRecord | list[StepRecord]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        values = {field: column[index] for field, column in self._columns.items()}
        return StepRecord(**values if self._validated[index] else {**values, "validation_loss": None})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records):
            return NotImplemented
        return all(one.tobytes() == two.tobytes() for one, two in self._pairs(other))

    __hash__ = None  # type: ignore[assignment]

    def _pairs(self, other: Records) -> Iterator[tuple[array[Any], array[Any]]]:
        yield self._validated, other._validated
        yield from zip(self._columns.values(), other._columns.values(), strict=True)


class History(Sequence[StepRecord]):
    """The records of a run, in order.

    ``epoch_loss``: list of float, the mean of each complete epoch's step losses, in nats.
    ``steps``: pandas.DataFrame, a row a step, the record's fields and ``tokens_per_second``.
    """

    def __init__(self, records: Iterable[StepRecord], epoch_loss: Sequence[float]) -> None:
        self._records = records.copy() if isinstance(records, Records) else Records(records)
        self.epoch_loss = list(epoch_loss)

    @property
    def losses(self) -> list[float]:
        """The loss of every step, in nats."""
        return self._records.column("loss").tolist()

    @property
    def steps(self) -> pandas.DataFrame:
        """A table with a row for every step. Needs pandas."""
        import pandas

        frame = pandas.DataFrame({field: self._records.column(field) for field in RECORD_FIELDS})
        with np.errstate(divide="ignore"):
            frame["tokens_per_second"] = np.divide(frame["tokens"], frame["seconds"])
        return frame

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[StepRecord]: ...

    def __getitem__(self, index: int | slice) -> StepRecord | list[StepRecord]:
        return self._records[index]

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self._records)

    def __repr__(self) -> str:
        if not len(self):
            return "History(no steps yet)"
        return f"History({len(self)} steps, loss {self._records[0].loss:.4f} to {self._records[-1].loss:.4f})"


class StepLog:
    """Appends a line of JSON per record and per finished epoch to a file.

    The file is opened and closed for each line, so that what was written survives a killed process and can be
    read with `read_log`. Raises LogError where the file exists and is something else.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if self.path.exists() and self.path.stat().st_size > 0:
            read_log(self.path)
            if not self.path.read_bytes().endswith(b"\n"):
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n")
        self._write({"format": LOG_FORMAT, "version": LOG_VERSION, **header})

    def append(self, record: StepRecord) -> None:
        """One line for the record."""
        self._write(asdict(record))

    def end_epoch(self, epoch: int, loss: float) -> None:
        """One line for a finished epoch and the mean of its step losses."""
        self._write({"epoch": epoch, "epoch_loss": loss})

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def read_log(path: str | os.PathLike[str]) -> History:
    """The history that a `StepLog` wrote, also after its process died in the middle of a line.

    A run resumed from an earlier checkpoint repeats step numbers; the later line of a number counts.
    Raises FileNotFoundError, and LogError for a file of another kind, naming the line.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    entries = [_parse(line) for line in lines]
    if entries[0].get("format") != LOG_FORMAT:
        raise LogError(f"{path}: line 1 does not say {LOG_FORMAT!r}; this is no log of cllm_lab")
    records: dict[int, StepRecord] = {}
    epoch_loss: dict[int, float] = {}
    for number, (line, entry) in enumerate(zip(lines, entries, strict=True), start=1):
        # Where a process was killed in the middle of a line, the file ends, or a resumed run begins.
        cut_off = not entry and (number == len(lines) or "format" in entries[number])
        if cut_off or not line:
            continue
        try:
            if "format" in entry:
                _require_version(path, entry["version"])
            elif "epoch_loss" in entry:
                epoch_loss[int(entry["epoch"])] = float(entry["epoch_loss"])
            else:
                record = StepRecord(**entry)
                records[int(record.step)] = record
        except (KeyError, TypeError) as wrong:
            raise LogError(f"{path}: line {number} is damaged: {line[:80]!r}") from wrong
    return History([records[n] for n in sorted(records)], [epoch_loss[n] for n in sorted(epoch_loss)])


def _parse(line: str) -> dict[str, Any]:
    """The entry of a line, empty where it holds none."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _require_version(path: str | os.PathLike[str], version: object) -> None:
    if version != LOG_VERSION:
        raise LogError(f"{path}: log version {version!r}; this library reads {LOG_VERSION}")
