"""A person's working copy of the notebooks: made once, refreshed later, never overwritten where edited."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from cllm_lab.files import replacing
from cllm_lab.resources import notebooks_path

# Hidden, so that it does not show in JupyterLab's file list.
_RECORD_NAME = ".cllm_lab.json"
_ORDER_NAME = "manifest.json"


class WorkbenchError(ValueError):
    """The folder cannot hold a working copy."""


@dataclass(frozen=True)
class WorkbenchReport:
    """What `update_workbench` did to each file, named by its path inside the folder.

    new: copied, since the folder had no such file. updated: replaced by a newer shipped version.
    set_aside: runs kept beside an updated notebook, under these names. kept: edited by the person, nothing
    newer is shipped. outdated: edited by the person and different from what is shipped now.
    withdrawn: no longer shipped, left in place. unchanged: as shipped, perhaps run since.
    """

    folder: Path
    new: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The folder, then a line for every file that is new, changed or the person's own."""
        remarks = {
            "new": self.new,
            "updated": self.updated,
            "your earlier run, set aside": self.set_aside,
            "edited by you, kept": self.kept,
            "edited by you, kept; a newer one is shipped (rename yours and start again)": self.outdated,
            "no longer shipped, left in place": self.withdrawn,
        }
        lines = [f"  {name}: {remark}" for remark, names in remarks.items() for name in names]
        return "\n".join([f"Notebooks in {self.folder}:", *(lines or ["  all as shipped"])])


def update_workbench(folder: str | os.PathLike[str]) -> WorkbenchReport:
    """Bring the shipped notebooks, and the files beside them, into `folder`; make it where it is missing.

    A missing file is copied. A file that the person left as it was is replaced when the shipped one
    changed. A file that the person edited is never written to: to have the shipped one back, rename or
    delete it and call again.

    Running a notebook is not editing it: a notebook counts as edited when the type or the source of a
    cell differs, whatever its outputs say. A run of a version that is no longer the shipped one is set aside
    as `NAME.run-1.ipynb` before it is replaced, so that outputs are not lost either. Any other file counts
    as edited when a byte differs. The version that each copy was made from is recorded in `.cllm_lab.json`
    inside the folder; a file without a record counts as edited when it differs from the shipped one.

    Raises WorkbenchError when `folder` is a file, lies in the folder of the shipped notebooks, or holds a
    record that cannot be read.
    """
    source = notebooks_path().resolve()
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise WorkbenchError(f"folder must be a folder, but {target} is a file; name another")
    if target.resolve().is_relative_to(source):
        raise WorkbenchError(f"folder must lie outside the shipped notebooks, got {target}; name another")
    origins = _read_record(target / _RECORD_NAME)
    target.mkdir(parents=True, exist_ok=True)

    report = WorkbenchReport(target)
    record = {}
    for name in _shipped_names(source):
        origin = _bring((source / name).read_bytes(), target / name, name, origins.pop(name, None), report)
        if origin is not None:
            record[name] = asdict(origin)
    report.withdrawn.extend(name for name in origins if (target / name).exists())
    _write(target / _RECORD_NAME, json.dumps(record, indent=1).encode() + b"\n")
    return report


def first_notebook() -> str | None:
    """The file name of the first notebook in the shipped order, or None where none is shipped."""
    order = json.loads((notebooks_path() / _ORDER_NAME).read_text(encoding="utf-8"))
    return order[0]["file"] if order else None


@dataclass(frozen=True)
class _Fingerprint:
    """SHA-256 of a file's bytes, and of the part of them that is edited by hand rather than by a run."""

    content: str
    editable: str


def _fingerprint(name: str, content: bytes) -> _Fingerprint:
    editable = _cell_sources(content) if name.endswith(".ipynb") else content
    return _Fingerprint(hashlib.sha256(content).hexdigest(), hashlib.sha256(editable).hexdigest())


def _cell_sources(content: bytes) -> bytes:
    """The type and source of each cell; the whole content where it is no notebook."""
    try:
        cells = json.loads(content)["cells"]
        return json.dumps([(cell["cell_type"], "".join(cell["source"])) for cell in cells]).encode()
    except (ValueError, KeyError, TypeError):
        return content


def _bring(
    content: bytes, path: Path, name: str, origin: _Fingerprint | None, report: WorkbenchReport
) -> _Fingerprint | None:
    """Bring one shipped file to `path`; return the shipped version that the file there now stems from."""
    shipped = _fingerprint(name, content)
    if not path.exists():
        _write(path, content)
        report.new.append(name)
        return shipped
    present = _fingerprint(name, path.read_bytes())
    untouched = origin is not None and present.content == origin.content
    only_run = origin is not None and present.editable == origin.editable
    if present.content == shipped.content or (present.editable == shipped.editable and not untouched):
        report.unchanged.append(name)
        return shipped
    if only_run:
        if not untouched:
            report.set_aside.append(_set_aside(path, name))
        _write(path, content)
        report.updated.append(name)
        return shipped
    changed = origin is None or origin.editable != shipped.editable
    (report.outdated if changed else report.kept).append(name)
    return origin


def _set_aside(path: Path, name: str) -> str:
    """Rename a notebook to the first free `NAME.run-N.ipynb`, and return that name inside the folder."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.run-{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    return str(PurePosixPath(name).with_name(aside.name))


def _shipped_names(source: Path) -> list[str]:
    """Every file below `source` that a person works with, so none that is hidden, cached or the order."""
    relative = (path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file())
    return [
        path.as_posix()
        for path in relative
        if path.name != _ORDER_NAME and not any(part.startswith((".", "__pycache__")) for part in path.parts)
    ]


def _read_record(path: Path) -> dict[str, _Fingerprint]:
    if not path.exists():
        return {}
    try:
        return {name: _Fingerprint(**versions) for name, versions in json.loads(path.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise WorkbenchError(
            f"folder holds a damaged record ({error}); delete {path} and start again: every notebook is kept"
        ) from error


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
