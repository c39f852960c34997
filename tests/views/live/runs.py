"""Small runs for the bench's tests, and what makes two of them the same."""

from __future__ import annotations

import math
import runpy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets

import cllm_lab as lab
from cllm_lab.model.config import ModelConfig
from cllm_lab.training.config import TrainConfig
from cllm_lab.views.live.bench import Bench
from cllm_lab.views.live.runner import Runner
from cllm_lab.views.live.setup import Setup

LANGUAGE = lab.InductionLanguage(n_symbols=5, block_length=3, n_tokens=49)
LONGEST = 60.0


@dataclass(frozen=True)
class OwnFault:
    """What a person can write who has read the protocol alone."""

    id: str = "mine"
    swaps: Mapping[str, Any] = field(default_factory=dict)


def _not_a_number(loss: float, training_pass: Any) -> float:
    return math.nan


# The step fails before anything is updated; without it the machine is as sound as before.
NAN_LOSS = OwnFault("nan-loss", {"reported_loss": _not_a_number})


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


@contextmanager
def held(runner: Runner) -> Iterator[None]:
    """Keeps the runner's thread from doing anything more until the block ends."""
    reached, released = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        released.wait(LONGEST)

    runner.between_steps(hold)
    assert reached.wait(LONGEST)
    try:
        yield
    finally:
        released.set()


def own_threads() -> list[str]:
    """The threads that this library made and that are alive."""
    return [each.name for each in threading.enumerate() if each.name.startswith("cllm_lab")]


def made_by(recipe: str, folder: Path, **names: Any) -> dict[str, Any]:
    """The names that a recipe leaves, in a namespace of its own that begins with some."""
    path = folder / "recipe.py"
    path.write_text(recipe, encoding="utf-8")
    return runpy.run_path(str(path), init_globals=names)


def assert_repeats(runner: Runner, folder: Path, **names: Any) -> None:
    """The recipe gives the same losses and weights, bit for bit; ``names`` are those that it asks for."""
    if runner.trainer is None:
        return
    again = made_by(runner.recipe(), folder, **names)["trainer"]
    assert again.history.losses == runner.trainer.history.losses, runner.recipe()
    assert (again.params.flat == runner.trainer.params.flat).all(), runner.recipe()


def widgets_of(bench: Bench) -> Iterator[ipywidgets.Widget]:
    """Every widget of a bench that is shown."""
    waiting: list[ipywidgets.Widget] = [bench]
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        yield widget


def every_html(bench: Bench) -> str:
    """All that a browser would read as HTML."""
    return "\n".join(each.value for each in widgets_of(bench) if isinstance(each, ipywidgets.HTML))


def switch_off_buttons(bench: Bench) -> list[ipywidgets.Button]:
    """Those in the list of faults, as they are now."""
    found = [child for line in bench._controls.fault_list.children for child in line.children]
    return [each for each in found if isinstance(each, ipywidgets.Button)]
