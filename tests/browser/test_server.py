"""A server that does not come up says why, and nothing outlives a server."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.browser import server as module
from tests.browser.server import ServerError, serve

# A request that changes something must bring the same value twice, as a page of the server's own would.
SAME_SITE = {"Cookie": "_xsrf=1", "X-XSRFToken": "1"}


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_options", lambda: ["--ServerApp.port=none"])
    with pytest.raises(ServerError, match=r"exit code 1(?s:.*)none"), serve(tmp_path):
        pass


def test_its_kernels_end_with_it(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with serve(tmp_path) as running:
        assert (running.notebooks / "00_tour.ipynb").is_file()
        request = Request(
            f"{running.url}/api/kernels", data=json.dumps({"name": "python3"}).encode(), headers=SAME_SITE
        )
        with urlopen(request, timeout=30) as answer:
            assert answer.status == 201
        started = [each for each in psutil.Process().children(recursive=True) if each.pid not in before]
        assert any("ipykernel_launcher" in each.cmdline() for each in started)
    assert not any(each.is_running() for each in started)
