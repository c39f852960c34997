"""A kernel as a notebook has it: code is executed, buttons are pressed, and everything that it publishes is read."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from cllm_lab.model.parts.threads import ENVIRONMENT

PROJECT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 120.0
COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


class KernelError(RuntimeError):
    """Code that failed in the kernel, or a kernel that does not answer."""


class Kernel:
    """A client of a running kernel. Moments are those of `time.monotonic`, which is one clock for all processes.

    A thread reads what the kernel publishes as soon as it comes; ``bytes_read`` counts it.
    """

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self._news = threading.Condition()
        self._results: dict[str, float] = {}
        self._values: dict[str, list[tuple[float, Any]]] = {}
        self.bytes_read = 0
        self._ending = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Ends the reading."""
        self._ending.set()
        self._reader.join()

    # Code.

    def send(self, code: str) -> str:
        """Sends a cell and returns at once, with the name of the request."""
        return str(self._client.execute(code, store_history=False))

    def finish(self, request: str) -> dict[str, Any]:
        """The answer to a request. Raises KernelError with the kernel's traceback."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self._client.get_shell_msg(timeout=max(0.0, deadline - time.monotonic()))
            if answer["parent_header"].get("msg_id") == request:
                break
        if answer["content"]["status"] != "ok":
            raise KernelError("\n".join(answer["content"].get("traceback", ["the kernel did not do it"])))
        return dict(answer["content"])

    def run(self, code: str) -> None:
        """Executes a cell and waits for its end. Raises KernelError with the kernel's traceback."""
        self.finish(self.send(code))

    def ask(self, expression: str) -> Any:
        """The value of an expression, as JSON has it. Raises KernelError where it fails."""
        request = self._client.execute(
            "import json", store_history=False, user_expressions={"it": f"json.dumps({expression})"}
        )
        found = self.finish(request)["user_expressions"]["it"]
        if found["status"] != "ok":
            raise KernelError("\n".join(found["traceback"]))
        return json.loads(ast.literal_eval(found["data"]["text/plain"]))

    def seconds_to_result(self, code: str) -> float:
        """From sending a cell until its result has arrived."""
        began = time.monotonic()
        request = self.send(code)
        self.await_news(lambda: request in self._results)
        self.finish(request)
        return self._results[request] - began

    # Widgets.

    def press(self, button: str) -> float:
        """Presses the button with this model id; the moment when it was pressed."""
        content = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        message = self._client.session.msg("comm_msg", content)
        pressed = time.monotonic()
        self._client.shell_channel.send(message)
        return pressed

    def values(self, widget: str, since: float = 0.0) -> list[tuple[float, Any]]:
        """The values that arrived for the widget with this model id, each with its moment."""
        with self._news:
            return [(moment, value) for moment, value in self._values.get(widget, ()) if moment >= since]

    def await_value(self, widget: str, since: float, wanted: str = "") -> float:
        """Until a text has arrived in which the pattern ``wanted`` is found; its moment. Raises as `await_news`."""

        def moments() -> list[float]:
            return [moment for moment, value in self.values(widget, since) if re.search(wanted, value)]

        self.await_news(lambda: bool(moments()))
        return moments()[0]

    def await_news(self, there: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
        """Until ``there`` says so, asked after each message. Raises KernelError when patience is over."""
        with self._news:
            if not self._news.wait_for(there, patience):
                raise KernelError(f"nothing came of it in {patience:.0f} seconds")

    def _read(self) -> None:
        socket = self._client.iopub_channel.socket
        session = self._client.session
        while not self._ending.is_set():
            if not socket.poll(100, zmq.POLLIN):
                continue
            frames = socket.recv_multipart()
            now = time.monotonic()
            _, parts = session.feed_identities(frames)
            message = session.deserialize(parts)
            with self._news:
                self.bytes_read += sum(len(frame) for frame in frames)
                self._note(message, now)
                self._news.notify_all()

    def _note(self, message: Mapping[str, Any], now: float) -> None:
        content = message["content"]
        if message["msg_type"] == "execute_result":
            self._results[message["parent_header"]["msg_id"]] = now
        elif message["msg_type"] == "comm_msg" and "value" in content["data"].get("state", ()):
            self._values.setdefault(content["comm_id"], []).append((now, content["data"]["state"]["value"]))


@contextmanager
def kernel(overlay: Path | None = None) -> Iterator[Kernel]:
    """A new kernel of this Python; the modules in ``overlay``, such as another ipykernel, come before its own.

    It knows nothing of the person's own settings, and ends with the block.
    """
    with tempfile.TemporaryDirectory() as folder:
        manager = KernelManager()
        assert manager.kernel_spec is not None
        manager.kernel_spec.argv = list(COMMAND)
        log = Path(folder, "kernel.log")
        with log.open("wb") as output:
            manager.start_kernel(
                cwd=folder, env=_environment(Path(folder), overlay), stdout=output, stderr=output
            )
        client = manager.client()
        client.start_channels()
        try:
            with _telling(log):
                client.wait_for_ready(timeout=PATIENCE_SECONDS)
            talk = Kernel(client)
            try:
                yield talk
            finally:
                talk.close()
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@contextmanager
def _telling(log: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as silent:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise KernelError(f"the kernel does not start: {silent}\n{said}") from silent


def _environment(folder: Path, overlay: Path | None) -> dict[str, str]:
    places = [str(place) for place in (overlay, PROJECT, os.environ.get("PYTHONPATH")) if place]
    # As `python -m cllm_lab lab` starts its kernels.
    return {**ENVIRONMENT, **os.environ} | {"PYTHONPATH": os.pathsep.join(places), "IPYTHONDIR": str(folder)}
