"""Execute the notebooks of `notebooks/manifest.json` and record their outputs: `make notebooks`.

What is written depends on the sources and on what the cells output, on nothing else: cell ids are stable, no
time, host, version or process shows, links follow a notebook that was renumbered, and the JSON has one form.
A notebook that fails is left as it was.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from cllm_lab.files import replacing
from cllm_lab.resources import notebooks_path

Notebook = dict[str, Any]

MANIFEST = "manifest.json"
CELL_TIMEOUT = 300.0
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}
KEPT_CELL_METADATA = ("editable", "jupyter", "tags")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NOTEBOOK_LINK = re.compile(r"\]\((?:\d+_)?(?P<slug>\w+)\.ipynb(?=[#)])")


@dataclass(frozen=True)
class Entry:
    """One notebook of the manifest.

    slug: its name for good. file: `NN_slug.ipynb`, where NN is its place. minutes: what it takes a person.
    needs: the slugs of the notebooks to have worked through before.
    """

    slug: str
    file: str
    title: str
    minutes: int
    needs: list[str] = field(default_factory=list)


def read_manifest(folder: Path) -> list[Entry]:
    """The notebooks of a folder, in order. Raises TypeError for an entry with a key too many or too few."""
    return [Entry(**entry) for entry in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))]


def record(entry: Entry, folder: Path, entries: Iterable[Entry]) -> Path:
    """Execute one notebook in its folder and write it with its outputs.

    Raises CellExecutionError when a cell fails that is not tagged raises-exception.
    """
    path = folder / entry.file
    notebook = normalise(json.loads(path.read_text(encoding="utf-8")), entry.slug, entries)
    executed = nbformat.from_dict(notebook)
    client = NotebookClient(
        executed,
        timeout=CELL_TIMEOUT,
        kernel_name=KERNELSPEC["name"],
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
    )
    # A backend that the caller's environment names would keep figures out of the notebook.
    client.execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"})
    with replacing(path) as unfinished:
        unfinished.write_text(as_text(normalise(executed, entry.slug, entries)), encoding="utf-8")
    return path


def as_text(notebook: Notebook) -> str:
    """The one form in which a notebook is written."""
    return nbformat.v4.writes(nbformat.from_dict(notebook)) + "\n"


def normalise(notebook: Notebook, slug: str, entries: Iterable[Entry]) -> Notebook:
    """The same notebook, with nothing in it that another run of the same cells would change."""
    files = {entry.slug: entry.file for entry in entries}
    cells = []
    executed = 0
    for position, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        kept = {key: value for key, value in cell["metadata"].items() if key in KEPT_CELL_METADATA}
        tidy = {
            "cell_type": cell["cell_type"],
            "id": cell.get("id") or hashlib.sha256(f"{slug}:{position}".encode()).hexdigest()[:8],
            "metadata": kept,
            "source": _relink(source, files) if cell["cell_type"] == "markdown" else source,
        }
        if cell["cell_type"] == "code":
            executed += 1
            ran = cell["execution_count"] is not None
            tidy["execution_count"] = executed if ran else None
            outputs = (_tidy_output(output, executed) for output in cell["outputs"])
            tidy["outputs"] = [output for output in outputs if output is not None]
        cells.append(tidy)
    metadata = {"kernelspec": dict(KERNELSPEC), "language_info": dict(LANGUAGE_INFO)}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _relink(source: str, files: Mapping[str, str]) -> str:
    def current(link: re.Match[str]) -> str:
        file = files.get(link["slug"])
        return link[0] if file is None else f"]({file}"

    return NOTEBOOK_LINK.sub(current, source)


def _tidy_output(output: Mapping[str, Any], executed: int) -> dict[str, Any] | None:
    """The output as it is written; None for a widget, which names a model of a kernel that is gone.

    JupyterLab shows "model not found" in its place, and its words are a repr of Python.
    """
    if WIDGET_VIEW in output.get("data", {}):
        return None
    tidy = {key: value for key, value in output.items() if key != "transient"}
    if "execution_count" in tidy:
        tidy["execution_count"] = executed
    if "traceback" in tidy:
        # The frames carry the paths of the machine.
        tidy["traceback"] = [f"{tidy['ename']}: {tidy['evalue']}"]
    return tidy


def main() -> int:
    """Record the notebooks that are named, or all of them; stop at the first that fails."""
    folder = notebooks_path()
    entries = read_manifest(folder)
    names = {name: entry for entry in entries for name in (entry.slug, Path(entry.file).stem)}
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks.record", description=main.__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help="as in tour or 00_tour (default: all)")
    wanted = parser.parse_args().name or [entry.slug for entry in entries]
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"not in {MANIFEST}: {', '.join(unknown)}; it lists {[entry.slug for entry in entries]}")
    for name in wanted:
        began = time.perf_counter()
        try:
            path = record(names[name], folder, entries)
        except CellExecutionError as error:
            print(f"{name} failed and was left as it was:\n{error}", file=sys.stderr)
            return 1
        print(
            f"{path.name}: {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
