"""Keys typed into the bench's fields, in JupyterLab in Chromium: what arrives, and what JupyterLab does instead."""

from __future__ import annotations

from typing import Any

from tests.bench_live.browser import opened_notebook
from tests.bench_live.measure import BENCH

# Twice i interrupts the kernel, twice d deletes the cell, twice 0 restarts: where a cell has the focus.
TYPED = "iidd"
INTERRUPTING = "ii"
FIELDS = ".cllm-live input:not([type=checkbox]):visible, .cllm-live textarea:visible"
LISTENING = """() => {
    window.done = [];
    window.jupyterapp.commands.commandExecuted.connect((_, command) => { window.done.push(command.id); });
}"""
TAKEN = "() => window.done.splice(0)"


def text_fields() -> dict[str, Any]:
    """Types `TYPED` into every field of a bench, on each of its panels.

    ``fields``: how many; ``texts``: of these take letters, a number's do not; ``arrived``: of the texts that then
    held what was typed; ``commands``: what JupyterLab did meanwhile; ``commands_on_a_button``: what it does when the
    key of `INTERRUPTING` is typed while a button has the focus; ``commands_on_a_cell``: when a cell has it, which
    shows that it listens. Raises NoBrowserError without Playwright or Chromium.
    """
    with opened_notebook([BENCH, "1 + 1"]) as opened:
        opened.run_all()
        page = opened.page
        page.locator(".cllm-live").wait_for()
        page.evaluate(LISTENING)
        found: dict[str, Any] = {"typed": TYPED, "fields": 0, "texts": 0, "arrived": 0}
        seen = set()
        for panel in page.locator(".cllm-live .cllm-panel-choice button").all():
            panel.click()
            for field in page.locator(FIELDS).element_handles():
                name = field.evaluate("e => e.closest('.jupyter-widgets').className")
                if name in seen:
                    continue
                seen.add(name)
                is_text = field.get_attribute("type") != "number"
                field.focus()
                page.keyboard.type(TYPED)
                found["fields"] += 1
                found["texts"] += is_text
                found["arrived"] += is_text and TYPED in field.input_value()
        found["commands"] = page.evaluate(TAKEN)
        page.locator(".cllm-live .cllm-start").focus()
        page.keyboard.type(INTERRUPTING)
        found["commands_on_a_button"] = page.evaluate(TAKEN)
        page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-InputPrompt").click()
        page.keyboard.type(TYPED)
        page.wait_for_function("window.done.length > 1")
        found["commands_on_a_cell"] = page.evaluate(TAKEN)
        return found
