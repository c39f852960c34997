"""Results on disk, one file each as they come, so that what was interrupted goes on where it stood."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cllm_lab.files import replacing
from cllm_lab.provenance import provenance
from cllm_lab.trials.run import digest, without_text

FORMAT = "cllm_lab-trial"
VERSION = 1
# The rooms whose code a run depends on: a result of other code is none of this one's.
_ROOMS = ("corpus", "lattice", "model", "training")


class Store:
    """Results in a folder, each in a file named by the sha256 of its description, of the code that made it, and of the
    versions of the libraries under it.

    ``report`` hears of files that cannot be used: they are made again. Raises OSError where the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], report: Callable[[str], object] = print) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.report = report

    def path(self, description: Mapping[str, Any]) -> Path:
        """Where the result of a description lies, or would."""
        return self.folder / f"{digest(_with_code(description))}.json"

    def get(self, description: Mapping[str, Any]) -> dict[str, Any] | None:
        """The stored result; None where there is none, or only a damaged file."""
        path = self.path(description)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            self._report_damage(path, error)
            return None
        try:
            content = json.loads(text)
            if (content["format"], content["version"]) != (FORMAT, VERSION):
                raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
            if content["description"] != _plain(without_text(_with_code(description))):
                raise ValueError("it describes another run")
            if content["sha256"] != _checksum(content["result"]):
                raise ValueError("the result is not the one that was stored")
            return content["result"]
        except (ValueError, KeyError, TypeError) as error:
            self._report_damage(path, error)
            return None

    def put(self, description: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keeps a result, atomically, with its description and what it was made with.

        Raises ValueError for a number that is not finite, which JSON has no word for.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            **provenance(),
            "description": without_text(_with_code(description)),
            "sha256": _checksum(result),
            "result": result,
        }
        text = json.dumps(content, allow_nan=False)
        with replacing(self.path(description)) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def _report_damage(self, path: Path, error: Exception) -> None:
        self.report(f"{path.name} is damaged and is made again: {type(error).__name__}: {error}")


@lru_cache(maxsize=1)
def code() -> str:
    """sha256 of the sources of every room that a run depends on, and of the run's own."""
    package = Path(__file__).parent.parent
    files = [path for room in _ROOMS for path in sorted((package / room).rglob("*.py"))]
    files += [package / "streams.py", package / "trials" / "run.py"]
    found = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        found.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def _with_code(description: Mapping[str, Any]) -> dict[str, Any]:
    return {**description, "code": code(), "versions": provenance()["versions"]}


def _plain(content: Mapping[str, Any]) -> Any:
    """As JSON gives it back: tuples are lists there."""
    return json.loads(json.dumps(content))


def _checksum(result: Mapping[str, Any]) -> str:
    text = json.dumps(result, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
