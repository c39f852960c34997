"""Where the time of a step goes: the seconds that each part takes by itself, and the products it makes in them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from numpy.typing import ArrayLike

from cllm_lab.model.activations import GradientSink
from cllm_lab.model.config import ModelConfig, require_count
from cllm_lab.model.parts import SLOTS, Part
from cllm_lab.model.transformer import Pass, Transformer


@dataclass(frozen=True)
class PartTime:
    """One part of the model in one direction, over one pass.

    ``seconds``: median over the repetitions of the time in all ``calls`` of the pass, without that of other parts
    which it calls. ``multiply_adds``: of its matrix products in the pass, 0 where it makes none.
    """

    slot: str
    direction: str
    calls: int
    seconds: float
    multiply_adds: int


def part_times(
    model: Transformer, tokens: ArrayLike, targets: ArrayLike, repetitions: int = 10
) -> tuple[PartTime, ...]:
    """Times every part of a model through passes forward and back; those that are called, in the order of the slots.

    The model is left as it was. The parts are timed as they stand in their table: a trainer gives a small healthy
    machine one compiled pass instead, which makes the same products.
    Raises ConfigError for ``repetitions`` below 1; ValueError or TypeError as `Transformer.loss`.
    """
    count = require_count("repetitions", repetitions)
    inputs, wanted = model.require_batch(tokens, targets)
    clock = _Clock()
    timed = {slot: clock.part(slot, getattr(model.parts, slot)) for slot in SLOTS}
    twin = model.swapped(**timed)
    full = Pass(twin, GradientSink(twin.params.like()))
    rounds = []
    for _ in range(count + 1):  # the first makes buffers and compiles
        clock.clear()
        full.forward(inputs)
        full.loss(wanted)
        full.backward()
        rounds.append(dict(clock.seconds))
    products = _multiply_adds(model.config, *inputs.shape)
    return tuple(
        PartTime(
            slot,
            direction,
            clock.calls[slot, direction],
            median(seconds[slot, direction] for seconds in rounds[1:]),
            products.get(slot, 0) * (1 if direction == "forward" else 2),
        )
        for slot in SLOTS
        for direction in ("forward", "backward")
        if clock.calls[slot, direction]
    )


class _Clock:
    """Seconds between the moments at which one part hands over to another."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self._running: list[tuple[str, str]] = []
        self._since = 0.0

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()

    def part(self, slot: str, part: Part) -> Part:
        """The same part, timed."""
        forward, backward = (slot, "forward"), (slot, "backward")
        return Part(part.name, self._timed(forward, part.forward), self._timed(backward, part.backward))

    def _timed(self, key: tuple[str, str], function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*inputs: Any) -> Any:
            self._hand_over()
            self._running.append(key)
            self.calls[key] += 1
            try:
                return function(*inputs)
            finally:
                self._hand_over()
                self._running.pop()

        return timed

    def _hand_over(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


def _multiply_adds(config: ModelConfig, B: int, T: int) -> dict[str, int]:
    """Of the products of one forward pass, by the slot that makes them; backward there are twice as many."""
    C, L = config.d_model, config.n_layers
    rows = B * T
    counts = {"feed_forward": 2 * L * rows * C * config.width_ff, "output": rows * C * config.vocab_size}
    if config.attention != "none":
        counts |= {
            "qkv": 3 * L * rows * C * C,
            "w_out": L * rows * C * C,
            "scores": L * rows * T * C,
            "mix": L * rows * T * C,
        }
    return counts
