"""What every committed notebook must keep to, as functions from a notebook to complaints.

A notebook opens with this header, in its first cell:

    # Its title, as in the manifest

    - **Time:** 12 minutes
    - **Before:** [The tour](00_tour.ipynb)
    - **Afterwards:** you can say what every tensor of the forward pass holds.

The time is the manifest's. `Before` names what a person should know, and links every notebook that the
manifest says is needed ("nothing" does where none is).
"""

import ast
import base64
import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from tests.notebooks.record import (
    KEPT_CELL_METADATA,
    KERNELSPEC,
    LANGUAGE_INFO,
    MANIFEST,
    WIDGET_VIEW,
    Entry,
    Notebook,
    as_text,
    normalise,
    read_manifest,
)

Cell = dict[str, Any]

LONGEST_CELL_LINES = 25
LARGEST_FILE_BYTES = 300_000
WIDEST_IMAGE_PIXELS = 1000
CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
HEADER = re.compile(
    r"# (?P<title>.+)\n\n"
    r"- \*\*Time:\*\* (?P<minutes>\d+) minutes\n"
    r"- \*\*Before:\*\* (?P<before>.+)\n"
    r"- \*\*Afterwards:\*\* (?P<afterwards>.+)"
)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)")
FIGURE_REPR = re.compile(r"<Figure size .*>")
UNSTABLE_TEXT = {
    "a path of this machine": re.compile(
        r"(?<![\w.:/])(/(tmp|home|root|work|usr|opt|var|mnt|Users)/|[A-Z]:\\)|~/"
    ),
    "a memory address": re.compile(r"0x[0-9a-fA-F]{6,}"),
    "a scalar's repr, which depends on the NumPy version": re.compile(r"\bnp\.(float|int|uint|bool)\w*\("),
}


def unexecuted(notebook: Notebook) -> Iterator[str]:
    """nbval compares nothing for a cell that was never executed."""
    for expected, (number, cell) in enumerate(_code_cells(notebook), start=1):
        if cell["execution_count"] != expected:
            yield f"cell {number} has execution count {cell['execution_count']}, not {expected}"


def empty_code(notebook: Notebook) -> Iterator[str]:
    """An empty cell is never executed, and teaches nothing."""
    for number, cell in _code_cells(notebook):
        if not _source(cell).strip():
            yield f"cell {number} is empty"


def skipped(notebook: Notebook) -> Iterator[str]:
    """Every cell runs; what is not compared says so in a tag that JupyterLab shows, not in a comment."""
    for number, cell in _code_cells(notebook):
        if "nbval-skip" in cell["metadata"].get("tags", []) or "NBVAL_" in _source(cell):
            yield f"cell {number} is skipped, or marked for nbval by a comment"


def errors(notebook: Notebook) -> Iterator[str]:
    """An error stands only where the tag announces it, and there it must."""
    for number, cell in _code_cells(notebook):
        announced = "raises-exception" in cell["metadata"].get("tags", [])
        raised = any(output["output_type"] == "error" for output in cell["outputs"])
        if raised != announced:
            yield f"cell {number} " + (
                "fails without the tag raises-exception" if raised else "does not raise as its tag says"
            )


def magics(notebook: Notebook) -> Iterator[str]:
    """A magic that fails hides the rest of its cell, and passes."""
    transform = TransformerManager().transform_cell
    for number, cell in _code_cells(notebook):
        source = _source(cell).strip()
        if transform(source).strip() != source:
            yield f"cell {number} uses a magic, a shell command or help syntax"


def kernel(notebook: Notebook) -> Iterator[str]:
    """A kernel of another name starts nowhere else."""
    if (given := notebook["metadata"].get("kernelspec")) != KERNELSPEC:
        yield f"kernelspec is {given}, not {KERNELSPEC}"


def stripped(notebook: Notebook) -> Iterator[str]:
    """Without outputs there is nothing to read and nothing to compare."""
    if not any(cell["outputs"] for _, cell in _code_cells(notebook)):
        yield "no cell has an output"


def long_cells(notebook: Notebook) -> Iterator[str]:
    """One idea a cell."""
    for number, cell in enumerate(notebook["cells"]):
        if (lines := len(_source(cell).splitlines())) > LONGEST_CELL_LINES:
            yield f"cell {number} has {lines} lines, more than {LONGEST_CELL_LINES}"


def cell_ids(notebook: Notebook) -> Iterator[str]:
    """Comparing two versions of a notebook needs to know which cell is which."""
    seen = set()
    for number, cell in enumerate(notebook["cells"]):
        identity = cell.get("id", "")
        if not CELL_ID.fullmatch(identity) or identity in seen:
            yield f"cell {number} has the id {identity!r}, which is missing, malformed or taken"
        seen.add(identity)


def stray_metadata(notebook: Notebook) -> Iterator[str]:
    """Times of execution, versions and the state of a person's screen change with every run."""
    if stray := notebook["metadata"].keys() - {"kernelspec", "language_info"}:
        yield f"the notebook's metadata holds {sorted(stray)}"
    if (given := notebook["metadata"].get("language_info")) != LANGUAGE_INFO:
        yield f"language_info is {given}, not {LANGUAGE_INFO}"
    for number, cell in enumerate(notebook["cells"]):
        if stray := cell["metadata"].keys() - set(KEPT_CELL_METADATA):
            yield f"the metadata of cell {number} holds {sorted(stray)}"


def size(notebook: Notebook) -> Iterator[str]:
    """A notebook is read through a browser and compared in a diff."""
    if (given := len(as_text(notebook).encode())) > LARGEST_FILE_BYTES:
        yield f"the file has {given} bytes, more than {LARGEST_FILE_BYTES}"


def widgets(notebook: Notebook) -> Iterator[str]:
    """A widget lives as long as its kernel: the next reader sees "model not found" in its place."""
    for number, _ in _outputs(notebook, WIDGET_VIEW):
        yield f"cell {number} has a widget among its outputs"


def compared_benches(notebook: Notebook) -> Iterator[str]:
    """What a bench leaves under its cell comes when its threads have done with it, and is no constant."""
    benches: set[str] = set()
    for number, cell in _code_cells(notebook):
        body = _body(cell)
        benches |= _made_by_live(body)
        shown = body[-1] if body else None
        shows = isinstance(shown, ast.Expr) and _is_bench(shown.value, benches)
        shows = shows or any(_is_shown_bench(node, benches) for each in body for node in ast.walk(each))
        if shows and "nbval-ignore-output" not in cell["metadata"].get("tags", []):
            yield f"cell {number} shows a bench without the tag nbval-ignore-output"


def wide_images(notebook: Notebook) -> Iterator[str]:
    """A figure fits the column that it is shown in."""
    for number, image in _outputs(notebook, "image/png"):
        # The width is the first field of a PNG's header chunk.
        (width,) = struct.unpack(">I", base64.b64decode(image)[16:20])
        if width > WIDEST_IMAGE_PIXELS:
            yield f"cell {number} has an image of {width} pixels, wider than {WIDEST_IMAGE_PIXELS}"


def wordless_figures(notebook: Notebook) -> Iterator[str]:
    """No comparison and no screen reader sees a figure: what it shows is printed too."""
    words = {
        number
        for kind in ("stdout", "text/plain")
        for number, text in _outputs(notebook, kind)
        if text.strip() and not FIGURE_REPR.fullmatch(text.strip())
    }
    figures = {number for kind in ("image/png", "image/svg+xml") for number, _ in _outputs(notebook, kind)}
    for number in sorted(figures - words):
        yield f"cell {number} shows a figure and prints no words"


def unstable_outputs(notebook: Notebook) -> Iterator[str]:
    """Paths, addresses and version-dependent forms differ on the next machine."""
    for kind in ("stdout", "text/plain", "text/html", "text/markdown", "error"):
        for number, text in _outputs(notebook, kind):
            for what, pattern in UNSTABLE_TEXT.items():
                if found := pattern.search(text):
                    yield f"the output of cell {number} holds {what}: {found[0]!r}"


def stderr(notebook: Notebook) -> Iterator[str]:
    """A warning carries a path and a process id."""
    for number, text in _outputs(notebook, "stderr"):
        yield f"cell {number} writes to stderr: {text[:80]!r}"


GUARDS: tuple[Callable[[Notebook], Iterator[str]], ...] = (
    unexecuted,
    empty_code,
    skipped,
    errors,
    magics,
    kernel,
    stripped,
    long_cells,
    cell_ids,
    stray_metadata,
    size,
    widgets,
    compared_benches,
    wide_images,
    wordless_figures,
    unstable_outputs,
    stderr,
)


def header(notebook: Notebook, entry: Entry, entries: list[Entry]) -> Iterator[str]:
    """A person sees what a notebook costs, asks and gives before starting it; the manifest says the same."""
    first = notebook["cells"][0] if notebook["cells"] else {"cell_type": "", "source": ""}
    found = HEADER.match(_source(first)) if first["cell_type"] == "markdown" else None
    if found is None:
        yield "the first cell does not open with the header (see the top of tests/notebooks/guards.py)"
        return
    if found["title"] != entry.title:
        yield f"the title is {found['title']!r}, in the manifest {entry.title!r}"
    if int(found["minutes"]) != entry.minutes:
        yield f"the time is {found['minutes']} minutes, in the manifest {entry.minutes}"
    linked = {link["target"] for link in LINK.finditer(found["before"])}
    for needed in entries:
        if needed.slug in entry.needs and needed.file not in linked:
            yield f"`Before` does not link {needed.file}, which the manifest says is needed"


def links(notebook: Notebook, entry: Entry, entries: list[Entry]) -> Iterator[str]:
    """A working copy holds the notebooks alone, so only they and the web can be linked."""
    files = {entry.file for entry in entries}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            for link in LINK.finditer(_source(cell)):
                if link["target"] not in files and not link["target"].startswith("https://"):
                    yield f"cell {number} links {link['target']}, which {MANIFEST} does not list"


def unrecorded(notebook: Notebook, entry: Entry, entries: list[Entry]) -> Iterator[str]:
    """What was saved by hand rather than by `make notebooks` differs in more than its outputs."""
    if as_text(notebook) != as_text(normalise(notebook, entry.slug, entries)):
        yield "the file is not as `make notebooks` writes it"


PLACED_GUARDS: tuple[Callable[[Notebook, Entry, list[Entry]], Iterator[str]], ...] = (
    header,
    links,
    unrecorded,
)


def manifest(entries: list[Entry], folder: Path) -> Iterator[str]:
    """The manifest lists exactly the notebooks there are, in the order of their numbers."""
    listed = [entry.file for entry in entries]
    present = sorted(path.name for path in folder.glob("*.ipynb"))
    if listed != present:
        yield f"{MANIFEST} lists {listed}, the folder holds {present}"
    known: list[str] = []
    for entry in entries:
        if not re.fullmatch(rf"\d\d_{re.escape(entry.slug)}\.ipynb", entry.file):
            yield f"{entry.file} is not two digits, an underscore and its slug {entry.slug!r}"
        if entry.slug in known:
            yield f"the slug {entry.slug!r} is taken twice"
        if type(entry.minutes) is not int or entry.minutes < 1:
            yield f"{entry.file} takes {entry.minutes!r} minutes, not a whole number of them"
        if missing := [slug for slug in entry.needs if slug not in known]:
            yield f"{entry.file} needs {missing}, which does not come before it"
        known.append(entry.slug)


def complaints(folder: Path) -> Iterator[str]:
    """Every complaint about the manifest of a folder and about each of its notebooks."""
    entries = read_manifest(folder)
    yield from manifest(entries, folder)
    for entry in entries:
        text = (folder / entry.file).read_text(encoding="utf-8")
        notebook = json.loads(text)
        found = [complaint for guard in GUARDS for complaint in guard(notebook)]
        found += [complaint for guard in PLACED_GUARDS for complaint in guard(notebook, entry, entries)]
        if not found and text != as_text(notebook):
            found.append("the JSON is not laid out as `make notebooks` writes it")
        yield from (f"{entry.file}: {complaint}" for complaint in found)


def _source(cell: Cell) -> str:
    return "".join(cell["source"])


def _code_cells(notebook: Notebook) -> Iterator[tuple[int, Cell]]:
    return ((number, cell) for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code")


def _body(cell: Cell) -> list[ast.stmt]:
    """The statements; none where it is no Python, which is for another guard to say."""
    try:
        return ast.parse(_source(cell)).body
    except SyntaxError:
        return []


def _is_live(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("lab.live", "live")


def _made_by_live(body: list[ast.stmt]) -> set[str]:
    """The names that are bound to a bench."""
    return {
        target.id
        for statement in body
        if isinstance(statement, ast.Assign) and _is_live(statement.value)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _is_bench(node: ast.AST, benches: set[str]) -> bool:
    return _is_live(node) or (isinstance(node, ast.Name) and node.id in benches)


def _is_shown_bench(node: ast.AST, benches: set[str]) -> bool:
    """A call of display with a bench."""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] == "display"
        and any(_is_bench(argument, benches) for argument in node.args)
    )


def _outputs(notebook: Notebook, kind: str) -> Iterator[tuple[int, str]]:
    """The cell number and the text of each output of a kind: a MIME type, "stdout", "stderr" or "error"."""
    for number, cell in _code_cells(notebook):
        for output in cell["outputs"]:
            if output.get("name") == kind:
                yield number, "".join(output["text"])
            elif output["output_type"] == kind:
                yield number, "\n".join([output["evalue"], *output["traceback"]])
            elif kind in output.get("data", {}):
                yield number, "".join(output["data"][kind])
