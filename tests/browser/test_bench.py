"""The live bench as a person uses it, in JupyterLab and in Notebook 7, with the oldest and the newest ipykernel."""

import re
from collections.abc import Callable, Sequence

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.page import NotebookPage
from tests.browser.server import Server

Write = Callable[[Sequence[str]], str]

BENCH = "import cllm_lab as lab\nbench = lab.live()\nbench"
ZERO_INIT = "zero-init: Every weight zero, gamma included"
STEPS_ABOVE = "shown => Number(/step ([\\d,]+)/.exec(shown)[1].replaceAll(',', '')) > {}"
# Every field that takes text. What is typed are commands of JupyterLab where the focus is elsewhere: interrupt the
# kernel (document 002's key), delete the cell, restart, insert cells, cut, undo.
FIELDS = {
    "Phases": ("learning-rate", "clip-norm", "epochs", "fault"),
    "New run": ("seed", "held-out"),
    "Take along": ("file-name", "recipe"),
}
COMMANDS = "iidd00abxz"

newest_only = pytest.mark.parametrize("kernel", ["newest"], indirect=True)
lab_only = pytest.mark.parametrize("app", ["lab"], indirect=True)


def trains_beyond(notebook: NotebookPage, step: int) -> None:
    """Waits until the bench shows a later step."""
    notebook.wait_for("cllm-status-line", STEPS_ABOVE.format(step))


def says(notebook: NotebookPage, name: str, words: str) -> None:
    """Waits until a part of the bench says something."""
    expect(notebook.control(name)).to_have_text(re.compile(words))


def picture_in_words(notebook: NotebookPage, name: str) -> str:
    """What a chart says to a screen reader."""
    return notebook.control(name).get_by_role("img").first.get_attribute("aria-label") or ""


def test_a_person_trains_breaks_and_repairs(write: Write, visit: Visit, server: Server, app: str) -> None:
    name = write([BENCH, "1 + 1"])
    notebook = visit(name)
    notebook.run_all()
    says(notebook, "cllm-status-line", "Ready")
    assert "no steps yet" in picture_in_words(notebook, "cllm-loss")

    notebook.press("cllm-start")
    trains_beyond(notebook, 20)
    early = picture_in_words(notebook, "cllm-loss")
    trains_beyond(notebook, 100)
    chart = notebook.control("cllm-loss").get_by_role("img").first
    expect(chart, "the curve stands still").not_to_have_attribute("aria-label", early)
    says(notebook, "cllm-words-line", "falling")
    notebook.screenshot(f"{app}_running")

    notebook.type("cllm-fault", ZERO_INIT)
    notebook.press("cllm-switch-on")
    says(notebook, "cllm-fault-list", "zero-init: waits: acts after Reset")
    notebook.press("cllm-reset")
    says(notebook, "cllm-status-line", "Ready")
    notebook.press("cllm-start")
    trains_beyond(notebook, 30)
    says(notebook, "cllm-words-line", r"flat at ln V.*every gradient exactly 0")
    assert "exactly 0" in picture_in_words(notebook, "cllm-norms")
    notebook.screenshot(f"{app}_pinned")

    notebook.press("cllm-switch-off")
    says(notebook, "cllm-fault-list", "its weights stay until Reset")
    notebook.press("cllm-reset")
    notebook.press("cllm-start")
    says(notebook, "cllm-words-line", "falling")
    notebook.press("cllm-stop")
    says(notebook, "cllm-status-line", "Stopped")
    assert notebook.control("cllm-fault-list").inner_text() == ""

    # The last picture stays when there is no kernel any more.
    expect(notebook.outputs(0).last.locator("img")).to_be_visible()
    notebook.save()
    saved = nbformat.read(server.notebooks / name, as_version=4).cells[0].outputs[-1].data
    assert "image/png" in saved and "falls" in saved["text/plain"]
    later = visit()
    later.open_without_kernel(name)
    expect(later.outputs(0).last.locator("img")).to_be_visible()
    later.screenshot(f"{app}_without_kernel")


@newest_only
@lab_only
def test_looks_in_both_themes_and_on_a_narrow_window(write: Write, visit: Visit) -> None:
    notebook = visit(write([BENCH]))
    notebook.run_all()
    notebook.press("cllm-start")
    trains_beyond(notebook, 60)
    notebook.press("cllm-pause")
    says(notebook, "cllm-status-line", "Paused")
    for theme in ("dark", "light"):
        notebook.set_theme(theme)
        for width in (1400, 480):
            notebook.set_size(width, 1100)
            notebook.screenshot(f"bench_{theme}_{width}")
            bench = notebook.control("cllm-live").bounding_box()
            chart = notebook.control("cllm-loss").locator("svg").bounding_box()
            assert bench is not None and chart is not None
            assert chart["x"] + chart["width"] <= bench["x"] + bench["width"] + 1, "the chart is cut off"


@newest_only
def test_what_is_typed_in_a_field_does_nothing_else(write: Write, visit: Visit) -> None:
    notebook = visit(write([BENCH, "survivor = 1"]))
    notebook.run_all()
    notebook.press("cllm-start")
    trains_beyond(notebook, 5)
    for panel, name in ((panel, f"cllm-{name}") for panel, names in FIELDS.items() for name in names):
        notebook.press("cllm-panel-choice", panel)
        notebook.type(name, COMMANDS)
        notebook.field(name).click()
        notebook.page.keyboard.press("Escape")
        notebook.page.keyboard.type(COMMANDS)
        notebook.page.keyboard.press("Tab")
    expect(notebook.page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(2)
    expect(notebook.page.locator(".jp-Dialog")).to_have_count(0)
    step = int(re.search(r"step ([\d,]+)", notebook.read("cllm-status-line"))[1].replace(",", ""))
    trains_beyond(notebook, step + 5)


@newest_only
@lab_only
def test_every_control_is_reached_with_the_tab_key_and_has_a_name(write: Write, visit: Visit) -> None:
    notebook = visit(write([BENCH]))
    notebook.run_all()
    notebook.control("cllm-start").focus()
    seen = []
    for _ in range(60):
        focused = notebook.page.evaluate(
            """() => { const e = document.activeElement;
                const inside = e.closest('.cllm-live') !== null;
                const label = e.labels?.[0]?.innerText || e.innerText || e.title || e.placeholder || '';
                return [inside, label.trim(), e.tagName]; }"""
        )
        if not focused[0]:
            break
        seen.append(focused)
        notebook.page.keyboard.press("Tab")
    assert all(label for _, label, _ in seen), seen
    labels = " ".join(label for _, label, _ in seen)
    for expected in (
        "Start",
        "Pause",
        "Step",
        "Phase",
        "Stop",
        "Reset",
        "epochs",
        "learning rate",
        "Switch on",
    ):
        assert expected in labels, (expected, labels)
    notebook.control("cllm-step").focus()
    notebook.page.keyboard.press("Enter")
    trains_beyond(notebook, 0)


@newest_only
@lab_only
def test_running_the_cell_again_ends_the_run_before(write: Write, visit: Visit) -> None:
    threads = "import threading\nprint(sum(each.name == 'cllm_lab bench' for each in threading.enumerate()))"
    notebook = visit(write([BENCH, threads]))
    notebook.run_all()
    notebook.press("cllm-start")
    trains_beyond(notebook, 5)
    notebook.run_all()
    expect(notebook.outputs(1)).to_have_text("0")
    says(notebook, "cllm-status-line", "Ready")
    expect(notebook.control("cllm-start")).to_have_count(1)
