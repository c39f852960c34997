"""Every committed notebook keeps to the guards, and every guard sees the fault that it is there for."""

import base64
import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cllm_lab.resources import notebooks_path
from tests.notebooks import guards
from tests.notebooks.record import MANIFEST, Entry, Notebook, as_text, normalise

TOUR = Entry("tour", "00_tour.ipynb", "The tour", 10)
NEXT = Entry("forward_pass", "01_forward_pass.ipynb", "The forward pass", 15, ["tour"])
ENTRIES = [TOUR, NEXT]


def png(width: int) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, 400)).decode()


def stream(text: str, name: str = "stdout") -> dict:
    return {"output_type": "stream", "name": name, "text": text}


def display(**data: str) -> dict:
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {k.replace("_", "/"): v for k, v in data.items()},
    }


def widget() -> dict:
    data = {"text/plain": "Bench()", "application/vnd.jupyter.widget-view+json": {"model_id": "a1"}}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def error() -> dict:
    return {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": ["ValueError: no"]}


def sound() -> Notebook:
    """A notebook without fault: the second of ENTRIES."""
    text = (
        "# The forward pass\n\n- **Time:** 15 minutes\n- **Before:** [The tour](00_tour.ipynb)\n"
        "- **Afterwards:** you can name every tensor.\n\nMore at [a page](https://example.org/page#part)."
    )
    raising = {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": "fail()"}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": text},
        {"cell_type": "code", "metadata": {}, "source": "x = 5 % 2", "outputs": []},
        {"cell_type": "code", "metadata": {}, "source": "draw(x)"},
        {**raising, "outputs": [error()]},
    ]
    cells[2]["outputs"] = [
        stream("it falls\n"),
        display(image_png=png(800), text_plain="<Figure size 800x400>"),
    ]
    notebook = {"cells": [{"execution_count": 1, **cell} for cell in cells], "metadata": {}}
    return normalise(notebook, NEXT.slug, ENTRIES)


def with_cell(number: int, **changes: object) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["cells"][number].update(changes)


def with_metadata(**changes: object) -> Callable[[Notebook], None]:
    return lambda notebook: notebook["metadata"].update(changes)


def without_outputs(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = []


def test_a_sound_notebook_passes_every_guard() -> None:
    found = [complaint for guard in guards.GUARDS for complaint in guard(sound())]
    found += [complaint for guard in guards.PLACED_GUARDS for complaint in guard(sound(), NEXT, ENTRIES)]
    assert found == []


FAULTS = [
    (guards.unexecuted, with_cell(1, execution_count=None), "cell 1 has execution count None, not 1"),
    (guards.unexecuted, with_cell(2, execution_count=3), "cell 2 has execution count 3, not 2"),
    (guards.empty_code, with_cell(1, source=" \n"), "cell 1 is empty"),
    (guards.skipped, with_cell(1, metadata={"tags": ["nbval-skip"]}), "cell 1 is skipped"),
    (guards.skipped, with_cell(1, source="# NBVAL_IGNORE_OUTPUT\nx = 1"), "cell 1 is skipped, or marked"),
    (guards.errors, with_cell(2, outputs=[error()]), "cell 2 fails without the tag"),
    (guards.errors, with_cell(3, outputs=[]), "cell 3 does not raise"),
    (guards.magics, with_cell(1, source="%matplotlib inline"), "cell 1 uses a magic"),
    (guards.magics, with_cell(1, source="%%time\nx = 1"), "cell 1 uses a magic"),
    (guards.magics, with_cell(1, source="files = !ls"), "cell 1 uses a magic"),
    (guards.magics, with_cell(1, source="x = 1\n!ls"), "cell 1 uses a magic"),
    (guards.magics, with_cell(1, source="print?"), "cell 1 uses a magic"),
    (guards.kernel, with_metadata(kernelspec={"name": "lab", "display_name": "Lab"}), "kernelspec is"),
    (guards.stripped, without_outputs, "no cell has an output"),
    (guards.long_cells, with_cell(1, source="x = 1\n" * 26), "cell 1 has 26 lines"),
    (guards.cell_ids, with_cell(1, id="a b"), "cell 1 has the id 'a b'"),
    (guards.cell_ids, lambda notebook: notebook["cells"][1].pop("id"), "cell 1 has the id ''"),
    (guards.cell_ids, lambda notebook: notebook["cells"].append(notebook["cells"][0]), "cell 4 has the id"),
    (guards.stray_metadata, with_metadata(widgets={}), "metadata holds ['widgets']"),
    (
        guards.stray_metadata,
        with_metadata(language_info={"name": "python", "version": "3.11"}),
        "language_info is",
    ),
    (
        guards.stray_metadata,
        with_cell(1, metadata={"execution": {"iopub.status.busy": "2026"}}),
        "['execution']",
    ),
    (guards.size, with_cell(1, outputs=[stream("x" * 300_000)]), "more than 300000"),
    (guards.widgets, with_cell(1, outputs=[widget()]), "cell 1 has a widget among its outputs"),
    (guards.compared_benches, with_cell(1, source="bench = lab.live()\nbench"), "cell 1 shows a bench"),
    (guards.compared_benches, with_cell(1, source="lab.live(trainer, epochs=3)"), "cell 1 shows a bench"),
    (guards.compared_benches, with_cell(1, source="display(lab.live())\nx = 1"), "cell 1 shows a bench"),
    (
        guards.compared_benches,
        lambda notebook: [
            with_cell(1, source="bench = lab.live()")(notebook),
            with_cell(2, source="if True:\n    IPython.display.display(bench)")(notebook),
        ],
        "cell 2 shows a bench without the tag nbval-ignore-output",
    ),
    (guards.wide_images, with_cell(1, outputs=[display(image_png=png(1001))]), "1001 pixels"),
    (guards.wordless_figures, with_cell(1, outputs=[display(image_png=png(9))]), "cell 1 shows a figure"),
    (
        guards.wordless_figures,
        with_cell(1, outputs=[display(image_png=png(9), text_plain="<Figure size 640x480 with 1 Axes>")]),
        "cell 1 shows a figure",
    ),
    (
        guards.wordless_figures,
        with_cell(1, outputs=[{**display(), "data": {"image/svg+xml": "<svg/>"}}]),
        "cell 1",
    ),
    (guards.unstable_outputs, with_cell(1, outputs=[stream("in /tmp/x")]), "a path of this machine: '/tmp/'"),
    (guards.unstable_outputs, with_cell(1, outputs=[stream("'/home/me/x'")]), "a path of this machine"),
    (guards.unstable_outputs, with_cell(1, outputs=[display(text_html="~/lab")]), "a path of this machine"),
    (
        guards.unstable_outputs,
        with_cell(1, outputs=[display(text_plain="C:\\lab")]),
        "a path of this machine",
    ),
    (
        guards.unstable_outputs,
        with_cell(1, outputs=[stream("<f at 0x7f00aa>")]),
        "a memory address: '0x7f00aa'",
    ),
    (
        guards.unstable_outputs,
        with_cell(1, outputs=[display(text_plain="np.float64(0.5)")]),
        "a scalar's repr",
    ),
    (guards.unstable_outputs, with_cell(3, outputs=[error() | {"evalue": "no /root/x"}]), "'/root/'"),
    (
        guards.stderr,
        with_cell(1, outputs=[stream("careful", "stderr")]),
        "cell 1 writes to stderr: 'careful'",
    ),
]


@pytest.mark.parametrize(("guard", "spoil", "complaint"), FAULTS)
def test_each_guard_sees_its_fault(
    guard: Callable, spoil: Callable[[Notebook], None], complaint: str
) -> None:
    notebook = sound()
    spoil(notebook)
    (found,) = guard(notebook)
    assert complaint in found


def test_every_guard_is_tried() -> None:
    assert {guard for guard, _, _ in FAULTS} == set(guards.GUARDS)


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        ("bench = lab.live()\nbench", ["nbval-ignore-output"]),
        ("bench = lab.live()\nbench.run(steps=3)", []),
        ("bench = lab.live()\nbench.picture()", []),
        ("bench = lab.live()\nprint(bench)", []),
        ("bench = lab.live()\n%matplotlib inline", []),
        ("bench", []),
    ],
)
def test_only_a_bench_that_is_shown_asks_for_the_tag(source: str, tags: list[str]) -> None:
    notebook = sound()
    with_cell(1, source=source, metadata={"tags": tags})(notebook)
    assert list(guards.compared_benches(notebook)) == []


def respelt(old: str, new: str) -> Callable[[Notebook], None]:
    def spoil(notebook: Notebook) -> None:
        first = notebook["cells"][0]
        assert old in first["source"]
        first["source"] = first["source"].replace(old, new)

    return spoil


PLACED_FAULTS = [
    (guards.header, respelt("# The", "The"), "the first cell does not open with the header"),
    (guards.header, respelt("- **Time:** 15 minutes\n", ""), "the first cell does not open with the header"),
    (guards.header, respelt("15 minutes", "a while"), "the first cell does not open with the header"),
    (guards.header, respelt("- **Before:**", "-"), "the first cell does not open with the header"),
    (guards.header, respelt("- **Afterwards:**", "-"), "the first cell does not open with the header"),
    (
        guards.header,
        lambda notebook: notebook["cells"].clear(),
        "the first cell does not open with the header",
    ),
    (
        guards.header,
        lambda notebook: notebook["cells"].pop(0),
        "the first cell does not open with the header",
    ),
    (guards.header, respelt("# The forward pass", "# Forwards"), "the title is 'Forwards'"),
    (guards.header, respelt("15 minutes", "16 minutes"), "the time is 16 minutes, in the manifest 15"),
    (guards.header, respelt("[The tour](00_tour.ipynb)", "the tour"), "`Before` does not link 00_tour.ipynb"),
    (guards.links, respelt("https://example.org/page", "02_gone.ipynb"), "cell 0 links 02_gone.ipynb"),
    (guards.links, respelt("https://example.org/page", "../README.md"), "cell 0 links ../README.md"),
    (guards.unrecorded, lambda notebook: notebook["cells"][1].pop("id"), "not as `make notebooks` writes it"),
    (guards.unrecorded, with_metadata(widgets={}), "not as `make notebooks` writes it"),
    (guards.unrecorded, respelt("00_tour.ipynb", "07_tour.ipynb"), "not as `make notebooks` writes it"),
]


@pytest.mark.parametrize(("guard", "spoil", "complaint"), PLACED_FAULTS)
def test_each_guard_of_a_place_in_the_order_sees_its_fault(
    guard: Callable, spoil: Callable[[Notebook], None], complaint: str
) -> None:
    notebook = sound()
    spoil(notebook)
    (found,) = guard(notebook, NEXT, ENTRIES)
    assert complaint in found


def test_every_guard_of_a_place_is_tried() -> None:
    assert {guard for guard, _, _ in PLACED_FAULTS} == set(guards.PLACED_GUARDS)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([TOUR], "lists ['00_tour.ipynb'], the folder holds ['00_tour.ipynb', '01_forward_pass.ipynb']"),
        ([*ENTRIES, Entry("gone", "02_gone.ipynb", "Gone", 5)], "the folder holds"),
        ([NEXT, TOUR], "lists ['01_forward_pass.ipynb', '00_tour.ipynb']"),
        ([TOUR, Entry("forward", NEXT.file, NEXT.title, 5)], "is not two digits, an underscore and its slug"),
        ([TOUR, Entry("tour", NEXT.file, NEXT.title, 5)], "the slug 'tour' is taken twice"),
        ([TOUR, Entry("forward_pass", NEXT.file, NEXT.title, 0)], "takes 0 minutes"),
        ([Entry("tour", TOUR.file, TOUR.title, 5, ["forward_pass"]), NEXT], "needs ['forward_pass']"),
    ],
)
def test_the_manifest_is_held_against_the_folder(
    tmp_path: Path, entries: list[Entry], complaint: str
) -> None:
    for entry in ENTRIES:
        (tmp_path / entry.file).touch()
    assert list(guards.manifest(ENTRIES, tmp_path)) == []
    assert any(complaint in found for found in guards.manifest(entries, tmp_path))


def test_a_folder_is_judged_notebook_by_notebook(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps([vars(entry) for entry in ENTRIES]))
    tour = copy.deepcopy(sound())
    respelt("# The forward pass", "# The tour")(tour)
    respelt("15 minutes", "10 minutes")(tour)
    (tmp_path / TOUR.file).write_text(as_text(tour))
    (tmp_path / NEXT.file).write_text(as_text(sound()))
    assert list(guards.complaints(tmp_path)) == []

    with_cell(1, execution_count=None)(tour)
    (tmp_path / TOUR.file).write_text(as_text(tour))
    (tmp_path / NEXT.file).write_text(json.dumps(sound()))
    found = list(guards.complaints(tmp_path))
    assert "00_tour.ipynb: cell 1 has execution count None, not 1" in found
    assert "01_forward_pass.ipynb: the JSON is not laid out as `make notebooks` writes it" in found


def test_the_committed_notebooks_keep_to_every_guard() -> None:
    assert list(guards.complaints(notebooks_path())) == []
