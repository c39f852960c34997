"""What is done within the kernel: threads and memory are counted, a bench is watched, a machine trains without one."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import Any

import psutil

# The threads of this library have names that begin so.
OURS = "cllm_lab"


def threads() -> dict[str, Any]:
    """Python's threads with the module that each comes from, the names of ours among them, how many threads the
    process has, and whether numba is imported."""
    present = sorted(threading.enumerate(), key=lambda thread: thread.name)
    return {
        "python": [f"{thread.name} ({type(thread).__module__})" for thread in present],
        "ours": [thread.name for thread in present if thread.name.startswith(OURS)],
        "process": psutil.Process().num_threads(),
        "numba_imported": "numba" in sys.modules,
    }


def control(bench: Any, name: str) -> str:
    """The model id of a bench's control, by the class that it is found by in a browser."""
    waiting = [bench]
    while waiting:
        widget = waiting.pop()
        if f"cllm-{name}" in widget._dom_classes:
            return str(widget.model_id)
        waiting += getattr(widget, "children", ())
    raise LookupError(f"the bench has no control of the class cllm-{name}")


class Watch:
    """The moments at which a bench's steps end and its run is halted. It reaches into the runner."""

    def __init__(self, bench: Any) -> None:
        self.step_ends: list[float] = []
        self.halts: list[float] = []
        runner = bench.runner
        runner._after_step = self._noting(runner._after_step, self.step_ends, before=True)
        runner._halt = self._noting(runner._halt, self.halts)

    def _noting(self, method: Any, moments: list[float], before: bool = False) -> Any:
        def noted(*arguments: Any) -> None:
            if before:
                moments.append(time.monotonic())
            method(*arguments)
            if not before:
                moments.append(time.monotonic())

        return noted

    def moments(self) -> dict[str, list[float]]:
        """Both lists."""
        return {"step_ends": list(self.step_ends), "halts": list(self.halts)}


class Doorbell:
    """A button that does nothing but to note when its callback ran."""

    def __init__(self) -> None:
        import ipywidgets

        self.moments: list[float] = []
        self._button = ipywidgets.Button(description="Press")
        self._button.on_click(lambda _: self.moments.append(time.monotonic()))
        self.id = self._button.model_id


class Alone:
    """A machine that trains in a thread as a bench's does, with nothing around it."""

    def __init__(self, setup: Any) -> None:
        self._trainer = setup.trainer()
        self._steps = self._trainer.steps()
        self._halted = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Trains until `halt`."""
        self._halted.clear()
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def halt(self) -> None:
        """Ends with the step that is being made."""
        assert self._thread is not None
        self._halted.set()
        self._thread.join()

    def progress(self) -> list[float]:
        """The moment, and the steps done."""
        return [time.monotonic(), self._trainer.steps_done]

    def _train(self) -> None:
        while not self._halted.is_set():
            next(self._steps)


def progress(bench: Any) -> list[float]:
    """The moment, and the steps done."""
    return [time.monotonic(), 0 if bench.trainer is None else bench.trainer.steps_done]


def memory() -> int:
    """Bytes that the process has in memory, after a collection."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def draw_every_step(bench: Any, steps: int) -> int:
    """So many steps of the runner's, each followed by a drawing of the bench's, without a thread; memory after them."""
    runner = bench.runner
    runner._go_on(None)
    for _ in range(steps):
        runner._run_on()
        bench._draw()
    runner._halt("paused")
    return memory()


def machine(bench: Any) -> dict[str, int]:
    """The sizes of what a bench trains."""
    trainer = bench.trainer
    model, train = trainer.model.config, trainer.config
    return {
        "vocab_size": model.vocab_size,
        "d_model": model.d_model,
        "n_heads": model.n_heads,
        "n_layers": model.n_layers,
        "d_ff": model.width_ff,
        "batch_size": train.batch_size,
        "sequence_length": train.sequence_length,
        "parameters": int(trainer.params.flat.size),
        "steps_an_epoch": trainer.steps_per_epoch,
    }
