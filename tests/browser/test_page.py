"""The driver does in JupyterLab and in Notebook 7 what its words say, with the oldest and the newest ipykernel."""

import re
from collections.abc import Callable, Sequence

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser import stub
from tests.browser.conftest import Kernel, Visit
from tests.browser.page import RunError
from tests.browser.server import Server

Write = Callable[[Sequence[str]], str]


newest_only = pytest.mark.parametrize("kernel", ["newest"], indirect=True)


@newest_only
def test_every_control_can_be_used(write: Write, visit: Visit) -> None:
    notebook = visit(write([stub.CONTROLS]))
    notebook.run_all()

    notebook.type("stub-whole", "42")
    notebook.type("stub-decimal", "0.25")
    notebook.type("stub-words", "iidd00")  # shortcuts of JupyterLab, were they not typed in a field
    notebook.choose("stub-one", "right")
    notebook.choose("stub-several", "red", "blue")
    notebook.press("stub-mode", "fast")
    notebook.tick("stub-on")
    notebook.press("stub-button")
    wanted = (
        "whole 42; decimal 0.25; words 'iidd00'; one 'right'; several ('red', 'blue'); mode 'fast'; on True"
    )
    expect(notebook.control("stub-said")).to_have_text(wanted)

    notebook.tick("stub-on", False)
    notebook.field("stub-on").focus()
    notebook.page.keyboard.press("Tab")
    assert "stub-button" in notebook.focused()
    notebook.page.keyboard.press("Enter")
    expect(notebook.control("stub-said")).to_have_text(re.compile("on False$"))


def test_what_a_thread_shows_arrives_and_what_was_saved_is_shown_without_a_kernel(
    write: Write, visit: Visit, server: Server, kernel: Kernel
) -> None:
    name = write([stub.CONTROLS, stub.VERSION])
    notebook = visit(name)
    notebook.run_all()
    assert notebook.outputs(1).inner_text().strip() == kernel.version
    expect(notebook.outputs(0).first).to_have_text("after")
    beat = int(notebook.read("stub-clock"))
    notebook.wait_for("stub-clock", f"shown => Number(shown) > {beat + 5}")

    notebook.set_size(700, 900)
    notebook.set_theme("dark")
    dark = notebook.screenshot(f"{name}_dark").read_bytes()
    notebook.set_theme("light")
    assert notebook.screenshot(f"{name}_light").read_bytes() != dark
    assert notebook.page.viewport_size == {"width": 700, "height": 900}
    assert notebook.heap_bytes() > 1_000_000

    notebook.save()
    saved = nbformat.read(server.notebooks / name, as_version=4)
    assert saved.cells[0].outputs[0].data["text/plain"] == "after"
    later = visit()
    later.open_without_kernel(name)
    expect(later.outputs(0).first).to_have_text("after")
    expect(later.outputs(0).last).to_have_text(re.compile(r"VBox\("))
    assert later.control("stub-button").count() == 0


@newest_only
@pytest.mark.parametrize("app", ["lab"], indirect=True)
def test_a_cell_that_fails_is_reported_with_its_error(write: Write, visit: Visit) -> None:
    notebook = visit(write([stub.BROKEN, stub.VERSION]))
    with pytest.raises(RunError, match="broken on purpose"):
        notebook.run_all()
