"""What a fault is: the parts it swaps, its evidence in words, and the scenario in which it shows."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.corpus.languages import InductionLanguage
from cllm_lab.corpus.source import TokenSource
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parts import SLOTS, Part, PartEdit, PartsTable, reference
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.parts import healthy_parts

if TYPE_CHECKING:
    from cllm_lab.faults.trainer import Trainer

TAKES_EFFECT = ("step", "reset", "new run")


def large_corpus() -> TokenSource:
    """The shipped text in words."""
    return load_corpus("large")


def copied_blocks() -> TokenSource:
    """Random blocks of eight symbols, each followed by its copy: only attention gets below ln 8 nats."""
    return InductionLanguage(n_symbols=8)


@dataclass(frozen=True)
class Scenario:
    """Conditions in which a fault shows, and how long it takes.

    ``model`` and ``train``: settings that differ from the defaults of `ModelConfig` and `TrainConfig`;
    ``vocab_size`` is the corpus's where ``model`` has none. ``epochs``: how long to train to see it.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    corpus: Callable[[], TokenSource] = large_corpus
    epochs: int = 8

    def model_config(self, corpus: TokenSource) -> ModelConfig:
        """The machine's settings for this corpus."""
        return ModelConfig(**{"vocab_size": corpus.vocab_size, **self.model})

    def trainer(
        self,
        faults: tuple[Fault, ...] = (),
        seed: int = 0,
        dtype: str = "float32",
        parts: PartsTable | None = None,
    ) -> Trainer:
        """A trainer at its first step, with the given faults; without any, the healthy twin."""
        # It knows every fault by id, and so lies above this module.
        from cllm_lab.faults.trainer import Trainer

        corpus = self.corpus()
        model = Transformer(self.model_config(corpus), seed, dtype, parts)
        return Trainer(model, corpus, TrainConfig(**{"seed": seed, **self.train}), faults)


# Where it shows whether attention works: a sound machine comes within 0.05 nats of the floor, ln(8) / 2.
COPYING = Scenario({"d_model": 32}, {"learning_rate": 3e-3}, copied_blocks, epochs=10)


@dataclass(frozen=True)
class Fault:
    """A fault of the catalogue.

    ``swaps``: slot -> the part that stands in it instead (a `PartEdit` for one half of a part of the model).
    ``source``: the document and place; ``symptom``: as it was reported; ``signature``: what tells it from its
    neighbours, as measured here; ``remedy``: what ends it. ``takes_effect``: "step" where it can be switched
    on and off between two steps, "reset" where it acts on the initial weights alone, "new run" where it acts on
    the stream of tokens that a run is made from.
    """

    id: str
    title: str
    swaps: Mapping[str, Any]
    source: str
    symptom: str
    signature: str
    remedy: str
    scenario: Scenario = Scenario()
    takes_effect: str = "step"

    def __post_init__(self) -> None:
        if self.takes_effect not in TAKES_EFFECT:
            raise ValueError(f"takes_effect must be one of {TAKES_EFFECT}; got {self.takes_effect!r}")

    @property
    def part(self) -> str:
        """The slots that it swaps."""
        return ", ".join(self.swaps)

    def broken(self, **choices: Any) -> Trainer:
        """The scenario's trainer with this fault; ``choices`` as of `Scenario.trainer`."""
        return self.scenario.trainer((self,), **choices)

    def healthy(self, **choices: Any) -> Trainer:
        """The scenario's trainer without it, from the same seed."""
        return self.scenario.trainer((), **choices)

    def show_diff(self) -> Diff:
        """The source of the healthy parts against that of the swapped ones, as a unified diff."""
        corpus = self.scenario.corpus()
        sound = reference.choose(self.scenario.model_config(corpus))
        around = healthy_parts("reference", TrainConfig(**self.scenario.train))
        pieces = []
        for slot, swap in self.swaps.items():
            before = dict(_functions(getattr(sound if slot in SLOTS else around, slot)))
            for half, function in _functions(swap):
                if half not in before or before[half] is not function:
                    pieces.append(_difference(slot, half, before.get(half), function, self.id))
        return Diff("\n".join(pieces))


class Diff(str):
    """A unified diff, coloured where Markdown is shown."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return f"```diff\n{self}\n```"


def _functions(part: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(half, function) of a part: forward and backward, the functions of an instrument, or the part itself."""
    if isinstance(part, Part | PartEdit):
        for half in ("forward", "backward"):
            if getattr(part, half) is not None:
                yield half, getattr(part, half)
    elif is_dataclass(part):
        for each in fields(part):
            if callable(getattr(part, each.name)):
                yield each.name, getattr(part, each.name)
    else:
        yield "", part


def _difference(
    slot: str, half: str, before: Callable[..., Any] | None, after: Callable[..., Any], fault: str
) -> str:
    place = f"{slot}.{half}" if half else slot
    lines = difflib.unified_diff(
        [] if before is None else _source(before),
        _source(after),
        f"{place} (healthy)",
        f"{place} ({fault})",
        n=99,
        lineterm="",
    )
    return "\n".join(lines)


def _source(function: Callable[..., Any]) -> list[str]:
    return inspect.getsource(function).splitlines()
