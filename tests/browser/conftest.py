"""A Jupyter server for each ipykernel that is supported, a browser, and what is shown when a test fails."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import BrowserContext, expect, sync_playwright

from tests.browser.page import WITHIN, App, NotebookPage, notebook_page
from tests.browser.server import PROJECT, Server, serve

SCREENSHOTS = PROJECT / "build" / "browser"
# `make test-browser` installs it there.
OLDEST_KERNEL = Path(sys.prefix) / "oldest-ipykernel"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# The container of a CI run has no user namespaces, no graphics card and little shared memory.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)

Visit = Callable[..., NotebookPage]


@dataclass(frozen=True)
class Kernel:
    """An ipykernel: the version that has to answer, and the folder it lies in where it is not the environment's."""

    version: str
    path: Path | None


@pytest.fixture(scope="session", params=["oldest", "newest"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "newest":
        return Kernel(metadata.version("ipykernel"), None)
    found = [each.version for each in metadata.distributions(name="ipykernel", path=[str(OLDEST_KERNEL)])]
    assert found, f"the oldest supported ipykernel is missing in {OLDEST_KERNEL}; run: make test-browser"
    return Kernel(found[0], OLDEST_KERNEL)


@pytest.fixture(scope="session")
def server(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("served"), kernel.path) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[BrowserContext]:
    """A person's browser: it loads JupyterLab's files once, and each test opens windows of its own."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found is not None, "the browser tests need Chromium (on Debian: apt install chromium)"
    expect.set_options(timeout=WITHIN)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=[*CHROMIUM_OPTIONS])
        yield running.new_context(viewport={"width": 1400, "height": 900})
        running.close()


@pytest.fixture(params=["lab", "notebook"])
def app(request: pytest.FixtureRequest) -> App:
    """JupyterLab, or Notebook 7 on the same server."""
    return request.param


@dataclass
class Visits:
    """The windows that a test opened, for its report."""

    server: Server
    pages: list[NotebookPage]


@pytest.fixture
def visits(server: Server) -> Visits:
    return Visits(server, [])


@pytest.fixture
def visit(visits: Visits, browser: BrowserContext, app: App) -> Iterator[Visit]:
    """Opens a window: `visit()` an empty one, `visit("00_tour.ipynb")` one on a notebook of the served folder."""
    with ExitStack() as stack:

        def opened(name: str | None = None) -> NotebookPage:
            page = stack.enter_context(notebook_page(browser, visits.server, app, SCREENSHOTS))
            visits.pages.append(page)
            if name is not None:
                page.open(name)
            return page

        yield opened


@pytest.fixture
def write(server: Server, app: App, request: pytest.FixtureRequest) -> Callable[[Sequence[str]], str]:
    """Writes a notebook of these cells into the served folder; returns its name, which no other test uses."""

    def written(cells: Sequence[str]) -> str:
        content = new_notebook(
            cells=[new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(cells)]
        )
        content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        name = f"{request.node.originalname}_{app}.ipynb"
        nbformat.write(content, server.notebooks / name)
        return name

    return written


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Adds to the report of a failed test what its windows show and what the server said."""
    report = yield
    visits = getattr(item, "funcargs", {}).get("visits")
    if report.failed and visits is not None:
        for number, notebook in enumerate(visits.pages):
            if not notebook.page.is_closed():
                path = notebook.screenshot(f"failed_{item.name}_{number}".replace("/", "_"))
                report.sections.append((f"window {number}", f"{path}\n" + "\n".join(notebook.console[-20:])))
        log = visits.server.log.read_text(encoding="utf-8", errors="replace")
        report.sections.append(("Jupyter server, the end of its log", log[-5000:]))
    return report
