"""Small runs for the bench's tests, and what makes two of them the same."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cllm_lab as lab
from cllm_lab.model.config import ModelConfig
from cllm_lab.training.config import TrainConfig
from cllm_lab.views.live.runner import Runner
from cllm_lab.views.live.setup import Setup

LANGUAGE = lab.InductionLanguage(n_symbols=5, block_length=3, n_tokens=49)
LONGEST = 60.0


def small_setup(**choices: Any) -> Setup:
    """A machine of one layer on 48 pairs: three steps an epoch."""
    model = ModelConfig(vocab_size=5, context_length=8, d_model=8, n_heads=2, n_layers=1)
    train = TrainConfig(batch_size=2, sequence_length=8, learning_rate=1e-2)
    return Setup(**{"corpus": LANGUAGE, "model": model, "train": train, **choices})


def done(runner: Runner) -> Runner:
    """The runner when it has nothing left to do."""
    assert runner.wait(LONGEST), f"still busy after {LONGEST} s in state {runner.state}"
    return runner


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread will bring about."""
    tick = threading.Event()
    for _ in range(int(LONGEST / 0.002)):
        if condition():
            return
        tick.wait(0.002)
    raise AssertionError("it did not come about")


def own_threads() -> list[str]:
    """The threads that this library made and that are alive."""
    return [each.name for each in threading.enumerate() if each.name.startswith("cllm_lab")]


def repeated(runner: Runner, folder: Path) -> Any:
    """The trainer that the runner's recipe makes, in a namespace of its own."""
    path = folder / "recipe.py"
    path.write_text(runner.recipe(), encoding="utf-8")
    return runpy.run_path(str(path))["trainer"]


def assert_repeats(runner: Runner, folder: Path) -> None:
    """The recipe gives the same losses and weights, bit for bit."""
    if runner.trainer is None:
        return
    again = repeated(runner, folder)
    assert again.history.losses == runner.trainer.history.losses, runner.recipe()
    assert (again.params.flat == runner.trainer.params.flat).all(), runner.recipe()
