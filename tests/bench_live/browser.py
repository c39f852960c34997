"""A notebook opened in JupyterLab in Chromium, for what can only be measured there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOK = "measured.ipynb"


class NoBrowserError(Exception):
    """What the browser needs is not installed; the message says what."""


@contextmanager
def opened_notebook(cells: Sequence[str]) -> Iterator[Any]:
    """A `tests.browser.page.NotebookPage` on a notebook of these cells, none of which has run.

    Raises NoBrowserError without Playwright or Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as missing:
        raise NoBrowserError("Playwright is not installed") from missing
    from tests.browser.conftest import CHROMIUM, CHROMIUM_OPTIONS
    from tests.browser.page import notebook_page
    from tests.browser.server import serve

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise NoBrowserError("Chromium is not installed")
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_OPTIONS])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            with serve(Path(folder)) as server:
                nbformat.write(notebook, server.notebooks / NOTEBOOK)
                with notebook_page(context, server, "lab", Path(folder)) as page:
                    page.open(NOTEBOOK)
                    yield page
        finally:
            browser.close()
