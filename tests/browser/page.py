"""What a person does with a notebook in the browser: open, run, press, type, choose, read, save, open again."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nbformat
from playwright.sync_api import BrowserContext, CDPSession, Locator, Page

from tests.browser.server import Server

App = Literal["lab", "notebook"]
# Two windows in one workspace of JupyterLab: the second would notice it, and load itself again in another.
ADDRESSES: dict[App, str] = {
    "lab": "lab/workspaces/window-{window}/tree/{name}",
    "notebook": "notebooks/{name}",
}
_windows = itertools.count(1)
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WITHIN = 30_000  # milliseconds; a shared machine is slow at times

# The notebook that is in front. `app` is there because the server was told to expose it.
_PANEL = """
    const app = window.jupyterapp;
    const panel = () => {
        const open = [...app.shell.widgets('main')].filter(each => each.context && each.sessionContext);
        return open.includes(app.shell.currentWidget) ? app.shell.currentWidget : open.at(-1);
    };
"""


class RunError(AssertionError):
    """A cell failed; the message holds the outputs of the notebook's cells."""


class NotebookPage:
    """One notebook in a window of its own; `page` is Playwright's, for what has no method here.

    Controls are named by a class that the notebook gave them (`widget.add_class`): a label such as "Start"
    would also match JupyterLab's own "Restart".
    """

    def __init__(self, page: Page, server: Server, app: App, screenshots: Path) -> None:
        self.page = page
        self.console: list[str] = []
        self._server = server
        self._app: App = app
        self._screenshots = screenshots
        page.set_default_timeout(WITHIN)
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    def open(self, name: str) -> None:
        """Open a notebook of the served folder; wait until it is shown and its kernel has answered."""
        self._go_to(name)
        self._do("await panel().sessionContext.ready; await panel().sessionContext.session.kernel.info;")

    def open_without_kernel(self, name: str) -> str:
        """Open a copy of a saved notebook as on a machine that has no kernel for it; return the copy's name."""
        folder = self._server.notebooks
        notebook = nbformat.read(folder / name, as_version=4)
        notebook.metadata.clear()
        notebook.metadata["kernelspec"] = {"name": "elsewhere", "display_name": "Elsewhere"}
        copy = f"without_kernel_{name}"
        nbformat.write(notebook, folder / copy)
        self._go_to(copy)
        self.page.locator(".jp-Dialog .jp-mod-reject").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        return copy

    def run_all(self) -> None:
        """Run every cell; wait until all have run and show their numbers. RunError where a cell fails."""
        # The promise stays in the page: one that waits for cells must not hold the driver.
        self._do(
            """window.allRan = undefined;
            app.commands.execute('notebook:run-all-cells').then(
                good => { window.allRan = good !== false; }, () => { window.allRan = false; });"""
        )
        self.page.wait_for_function("() => window.allRan !== undefined")
        if not self.page.evaluate("window.allRan"):
            raise RunError("\n".join(self.page.locator(".jp-OutputArea").all_inner_texts()))
        self.page.wait_for_function(
            f"""() => {{ {_PANEL}
                const code = panel().content.widgets.filter(cell => cell.model.type === 'code');
                const full = code.filter(cell => cell.model.sharedModel.getSource().trim() !== '');
                return full.every(cell => /^\\[\\d+\\]:$/.test(cell.inputArea.promptNode.textContent));
            }}"""
        )

    def run_cell(self, cell: int) -> None:
        """Run one cell, counted from 0, and do not wait for it."""
        self._do(
            """panel().content.activeCellIndex = argument;
            app.commands.execute('notebook:run-cell');""",
            cell,
        )

    def outputs(self, cell: int) -> Locator:
        """The outputs of a cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-OutputArea-output")

    def control(self, name: str) -> Locator:
        """What carries the class `name`, in any cell's outputs."""
        return self.page.locator(f".jp-OutputArea-output .{name}")

    def field(self, name: str) -> Locator:
        """The field in which the control `name` takes its value."""
        return self.control(name).locator("input, select, textarea").first

    def press(self, name: str, label: str | None = None) -> None:
        """Press a button with the mouse; of several buttons in one control, the one with this label."""
        control = self.control(name)
        (control if label is None else control.get_by_role("button", name=label, exact=True)).click()

    def type(self, name: str, text: str) -> None:
        """Replace what a field holds, key by key, and leave it with Tab, which sends the value."""
        self.field(name).click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Tab")

    def choose(self, name: str, *labels: str) -> None:
        """Choose entries of a list by what they say."""
        self.field(name).select_option(label=list(labels))

    def tick(self, name: str, on: bool = True) -> None:
        """Tick a checkbox, or remove its tick."""
        self.field(name).set_checked(on)

    def read(self, name: str) -> str:
        """The text that a control shows."""
        return self.control(name).inner_text()

    def focused(self) -> str:
        """The classes of the focused element and of the widget around it, for following the Tab key."""
        script = "e => { const widget = e.closest('.jupyter-widgets'); return [e, widget].map(x => x?.className ?? '')"
        return " ".join(self.page.evaluate(f"({script}; }})(document.activeElement)"))

    def wait_for(self, name: str, test: str) -> None:
        """Wait until JavaScript's `test`, a function of what the control `name` shows, says true."""
        self.control(name).wait_for()
        self.page.wait_for_function(
            f"name => ({test})(document.querySelector(`.jp-OutputArea-output .${{name}}`).innerText)",
            arg=name,
        )

    def save(self) -> None:
        """Save the notebook, and wait until the server has it."""
        self._do("await panel().context.ready; await app.commands.execute('docmanager:save');")

    def set_theme(self, theme: Literal["light", "dark"]) -> None:
        """Switch JupyterLab's theme, and wait until the page has it."""
        self._do("await app.commands.execute('apputils:change-theme', { theme: argument });", THEMES[theme])
        light = str(theme == "light").lower()
        self.page.wait_for_function("wanted => document.body.dataset.jpThemeLight === wanted", arg=light)

    def set_size(self, width: int, height: int) -> None:
        """Make the window this large, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, name: str) -> Path:
        """Store what the window shows as a PNG, in the folder of screenshots."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        path = self._screenshots / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def heap_bytes(self) -> int:
        """The memory that the page's JavaScript holds after a garbage collection, in bytes."""
        with self._developer_tools() as tools:
            tools.send("HeapProfiler.collectGarbage")
            tools.send("Performance.enable")
            metrics = tools.send("Performance.getMetrics")["metrics"]
        return int(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))

    def end_kernel(self) -> None:
        """Shut the notebook's kernel down, if it has one; the page stays open."""
        self._do("if (panel()?.sessionContext.session) await panel().sessionContext.shutdown();")

    @contextmanager
    def _developer_tools(self) -> Iterator[CDPSession]:
        tools = self.page.context.new_cdp_session(self.page)
        try:
            yield tools
        finally:
            tools.detach()

    def _go_to(self, name: str) -> None:
        address = ADDRESSES[self._app].format(window=next(_windows), name=name)
        self.page.goto(f"{self._server.url}/{address}")
        self.page.wait_for_function("() => window.jupyterapp !== undefined")
        self._do("await app.restored;")
        self.page.wait_for_function(f"() => {{ {_PANEL} return panel() !== undefined; }}")
        self._do("await panel().context.ready;")

    def _do(self, script: str, argument: object = None) -> Any:
        return self.page.evaluate(f"async argument => {{ {_PANEL} {script} }}", argument)


@contextmanager
def notebook_page(
    context: BrowserContext, server: Server, app: App, screenshots: Path
) -> Iterator[NotebookPage]:
    """A window of its own; its notebook's kernel ends with it."""
    page = context.new_page()
    try:
        notebook = NotebookPage(page, server, app, screenshots)
        yield notebook
        notebook.end_kernel()
    finally:
        page.close()
