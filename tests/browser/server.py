"""A Jupyter server as `make lab` starts it, with nothing of the person's own settings in it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

PROJECT = Path(__file__).resolve().parent.parent.parent
STARTS_WITHIN = 60.0
ENDS_WITHIN = 15.0


class ServerError(RuntimeError):
    """The server did not come up; the message ends with its log."""


@dataclass(frozen=True)
class Server:
    """A running server: its address without a trailing slash, the folder it serves, and its log."""

    url: str
    notebooks: Path
    log: Path


@contextmanager
def serve(folder: Path, kernel_path: Path | None = None) -> Iterator[Server]:
    """Serve a working copy of the notebooks from below `folder`; end the server and its kernels afterwards.

    `kernel_path` is put first on the kernels' module path, so that they import another ipykernel than the
    environment's. Raises ServerError when the server does not answer within a minute.
    """
    notebooks = folder / "notebooks"
    log = folder / "server.log"
    environment = _environment(folder / "jupyter", kernel_path)
    command = [sys.executable, "-m", "cllm_lab", "lab", str(notebooks), *_options()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            information = folder / "jupyter" / "runtime" / f"jpserver-{process.pid}.json"
            yield Server(_wait_for_address(process, information, log), notebooks, log)
        finally:
            _end(process)


def _options() -> list[str]:
    # The server has a port of its own choice and no token: it answers this machine alone, while a test runs.
    options = [
        "--no-browser",
        "--port=0",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]
    return [*options, "--allow-root"] if os.geteuid() == 0 else options


def _environment(jupyter: Path, kernel_path: Path | None) -> dict[str, str]:
    """This process's environment, with Jupyter's folders in `jupyter`."""
    folders = {
        "JUPYTER_CONFIG_DIR": jupyter / "config",
        "JUPYTER_DATA_DIR": jupyter / "data",
        "JUPYTER_RUNTIME_DIR": jupyter / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": jupyter / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": jupyter / "workspaces",
        "IPYTHONDIR": jupyter / "ipython",
    }
    for path in folders.values():
        path.mkdir(parents=True)
    _fetch_nothing(folders["JUPYTERLAB_SETTINGS_DIR"])
    _write_kernel(folders["JUPYTER_DATA_DIR"], kernel_path)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    return inherited | {name: str(path) for name, path in folders.items()} | {"JUPYTER_PREFER_ENV_PATH": "0"}


def _fetch_nothing(settings: Path) -> None:
    path = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8")


def _write_kernel(data: Path, kernel_path: Path | None) -> None:
    given = [str(path) for path in (kernel_path, os.environ.get("PYTHONPATH")) if path]
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(given)} if given else {},
    }
    path = data / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spec), encoding="utf-8")


def _wait_for_address(process: subprocess.Popen[bytes], information: Path, log: Path) -> str:
    """The server's address, read from the file that it writes about itself, once it answers there."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if information.exists():
            try:
                url = json.loads(information.read_text(encoding="utf-8"))["url"].rstrip("/")
                with urlopen(f"{url}/api/status", timeout=5):
                    return url
            except (ValueError, URLError):  # still being written, or not listening yet
                pass
        time.sleep(0.1)
    said = log.read_text(encoding="utf-8", errors="replace")
    raise ServerError(f"no server after {STARTS_WITHIN:.0f} seconds, exit code {process.poll()}:\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, which ends its kernels; then whatever is left of them."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, timeout=5)
    for child in left:
        child.kill()
