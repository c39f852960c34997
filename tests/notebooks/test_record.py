"""Recording a notebook: what is executed, what is written, and what no run may change."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.notebooks.record import Entry, Notebook, as_text, normalise, read_manifest, record

ENTRY = Entry("sums", "01_sums.ipynb", "Sums", 1)


def code(source: str, **cell: object) -> dict:
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "execution_count": None,
        "outputs": [],
        **cell,
    }


def as_saved_by_a_person(*cells: dict) -> Notebook:
    metadata = {
        "kernelspec": {"name": "lab", "display_name": "My lab"},
        "language_info": {"name": "python", "version": "3.11.7"},
        "widgets": {"state": {}},
    }
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def written(folder: Path, *cells: dict) -> Path:
    path = folder / ENTRY.file
    path.write_text(json.dumps(as_saved_by_a_person(*cells)))
    return path


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        code(
            "import os, time\nprint('one', flush=True)\ntime.sleep(0.3)\nprint(2)\nos.environ['MPLBACKEND']"
        ),
        code("raise ValueError('as announced')", metadata={"tags": ["raises-exception"], "collapsed": True}),
        code("print('after')"),
    )
    assert record(ENTRY, tmp_path, [ENTRY]) == path
    first = path.read_bytes()
    record(ENTRY, tmp_path, [ENTRY])
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [ENTRY.file]

    notebook = json.loads(first)
    nbformat.validate(nbformat.from_dict(notebook))
    assert first.endswith(b"\n}\n")
    counts = [cell["execution_count"] for cell in notebook["cells"]]
    assert counts == [1, 2, 3]
    printed, value = notebook["cells"][0]["outputs"]
    assert printed["text"] == ["one\n", "2\n"]
    assert value["data"]["text/plain"] == ["'module://matplotlib_inline.backend_inline'"]
    (failure,) = notebook["cells"][1]["outputs"]
    assert failure["traceback"] == ["ValueError: as announced"]
    assert notebook["cells"][1]["metadata"] == {"tags": ["raises-exception"]}
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
    }


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, code("1 / 0"))
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="division by zero"):
        record(ENTRY, tmp_path, [ENTRY])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [ENTRY.file]


def test_an_id_is_kept_and_a_missing_one_derived_from_the_place() -> None:
    cells = [code("1", id="chosen"), code("2"), code("3")]
    first = [cell["id"] for cell in normalise(as_saved_by_a_person(*cells), "sums", [])["cells"]]
    again = [cell["id"] for cell in normalise(as_saved_by_a_person(*cells), "sums", [])["cells"]]
    other = [cell["id"] for cell in normalise(as_saved_by_a_person(*cells), "products", [])["cells"]]
    assert first == again
    assert first[0] == other[0] == "chosen"
    assert len({*first, *other}) == 5


def test_normalising_twice_changes_nothing_more() -> None:
    output = {
        "output_type": "execute_result",
        "execution_count": 9,
        "metadata": {},
        "data": {"text/plain": "2"},
    }
    saved = as_saved_by_a_person(code(["1", "+1"], outputs=[output], execution_count=9))
    once = normalise(saved, "sums", [ENTRY])
    assert once["cells"][0]["outputs"][0]["execution_count"] == once["cells"][0]["execution_count"] == 1
    assert as_text(normalise(once, "sums", [ENTRY])) == as_text(once)


def test_a_cell_that_did_not_run_does_not_look_as_if_it_had() -> None:
    assert normalise(as_saved_by_a_person(code("1")), "sums", [])["cells"][0]["execution_count"] is None


WIDGET = {
    "text/plain": "IntSlider(value=3)",
    "application/vnd.jupyter.widget-view+json": {"model_id": "a1"},
}


@pytest.mark.parametrize("kind", ["display_data", "execute_result"])
def test_a_dead_widget_goes_and_what_stands_beside_it_stays(kind: str) -> None:
    count = {"execution_count": 4} if kind == "execute_result" else {}
    widget = {"output_type": kind, "metadata": {}, "data": WIDGET, **count}
    picture = {"text/plain": "picture", "image/png": "aGE="}
    beside = {
        "output_type": "display_data",
        "metadata": {},
        "data": picture,
        "transient": {"display_id": "b2"},
    }
    said = {"output_type": "stream", "name": "stdout", "text": "words"}
    saved = as_saved_by_a_person(code("x", outputs=[widget, beside, said], execution_count=4))
    notebook = normalise(saved, "sums", [])
    assert notebook["cells"][0]["outputs"] == [
        {"output_type": "display_data", "metadata": {}, "data": picture},
        said,
    ]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_recording_leaves_a_picture_that_was_sent_later_and_no_widget(tmp_path: Path) -> None:
    shown = (
        "import ipywidgets\nfrom IPython.display import display\n"
        "box = ipywidgets.VBox()\ndisplay(box)\nhandle = display('nothing yet', display_id=True)"
    )
    path = written(tmp_path, code(shown), code("handle.update('the last picture')"))
    record(ENTRY, tmp_path, [ENTRY])
    notebook = json.loads(path.read_text())
    (output,) = notebook["cells"][0]["outputs"]
    assert output["data"] == {"text/plain": ["'the last picture'"]}
    assert notebook["cells"][1]["outputs"] == []
    assert "widgets" not in notebook["metadata"]


def test_links_follow_a_renumbered_notebook() -> None:
    text = "[a](07_sums.ipynb), [b](sums.ipynb#part), [c](07_gone.ipynb), [d](sums.ipynbx), [e](https://x.org/07_sums.ipynb)"
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text}, code(f"text = '{text}'")]
    markdown, untouched = normalise(as_saved_by_a_person(*cells), "x", [ENTRY])["cells"]
    assert markdown["source"] == text.replace("07_sums", "01_sums", 1).replace(
        "(sums.ipynb#", "(01_sums.ipynb#"
    )
    assert text in untouched["source"]


def test_the_manifest_is_read_in_order_and_refuses_unknown_keys(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps([vars(ENTRY)]))
    assert read_manifest(tmp_path) == [ENTRY]
    (tmp_path / "manifest.json").write_text(json.dumps([vars(ENTRY) | {"mintues": 3}]))
    with pytest.raises(TypeError, match="mintues"):
        read_manifest(tmp_path)
