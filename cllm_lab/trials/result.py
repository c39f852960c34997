"""What a comparison has found: plain data, the same as tables, and a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm_lab.files import replacing

if TYPE_CHECKING:
    import pandas

FORMAT = "cllm_lab-ablation"
VERSION = 1


class AblationError(ValueError):
    """A text that is no comparison of this library, or one of a version it does not know."""


@dataclass(frozen=True)
class Ablation:
    """A comparison of machines; `data` holds everything, in JSON's types.

    ``table``: a row for each corpus and arm, against the baseline. Effects are differences of the lowest validation
    loss in nats, arm minus baseline: below 0 is better. ``effect``, ``low``, ``high``, ``p``, ``p_corrected``,
    ``verdict``, ``detectable``: at equal steps; with ``time_`` before the name, at equal time through the single parts;
    with ``as_run_``, at equal time as a trainer runs both. ``controls``: arm minus its control, at equal steps.
    Each of these four readings is corrected over all its rows, and by itself: who looks for the best of all four looks
    at four families. ``low`` and ``high`` are of one comparison alone, so that an interval may exclude 0 where the
    corrected verdict is "no difference shown". At equal time a verdict must hold at both quartiles of the measured
    cost. ``loss``, ``lowest_at``, ``last_loss``: the mean lowest validation loss, the median step at which it was
    reached, and the mean at the end. ``baselines``: a row for each corpus. ``tuning``, ``curves``, ``lowest``,
    ``costs``, ``settings``: in `data`.
    """

    data: Mapping[str, Any]

    @property
    def table(self) -> pandas.DataFrame:
        """A row for each corpus and arm."""
        return _frame(self.data["rows"])

    @property
    def controls(self) -> pandas.DataFrame:
        """A row for each corpus and pair of arm and control."""
        return _frame(self.data["controls"])

    @property
    def baselines(self) -> pandas.DataFrame:
        """A row for each corpus: what the baseline reached, and how."""
        return _frame(self.data["baselines"])

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """All of it as JSON, written to a file as well where one is named.

        Raises ValueError for a number that is not finite, OSError as the file system does.
        """
        content = {"format": FORMAT, "version": VERSION, **self.data}
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("},{", "},\n{") + "\n"
        if path is not None:
            with replacing(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, text: str | os.PathLike[str]) -> Ablation:
        """What `to_json` wrote, from the text or from the file at a Path.

        Raises AblationError for anything else, OSError as the file system does.
        """
        if isinstance(text, os.PathLike):
            text = Path(text).read_text(encoding="utf-8")
        try:
            content = json.loads(text)
            kind = content.pop("format"), content.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise AblationError(
                f"this is no comparison of cllm_lab: {type(error).__name__}: {error}"
            ) from error
        if kind != (FORMAT, VERSION):
            raise AblationError(f"expected {FORMAT}, version {VERSION}; got {kind[0]!r}, version {kind[1]!r}")
        return cls(content)


def _frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows)
