"""What a run is made from, and a run written down as the lines of Python that repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from cllm_lab.corpus.languages import SyntheticLanguage
from cllm_lab.corpus.source import TokenSource
from cllm_lab.faults.catalogue import catalogue
from cllm_lab.faults.fault import Fault
from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.config import ConfigError, ModelConfig, require_count
from cllm_lab.model.parts import by_name
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.changes import CHANGEABLE, FAULTS, SLOTS_OF_A_START
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.parts import Fault as AnyFault
from cllm_lab.training.parts import sort_swaps

# A change in mid-flight: the number of the first step that has it, and what it sets.
Change = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Setup:
    """What a run is made from, and nothing else decides it.

    ``seed`` is that of the weights, ``parts`` the name of a table; ``epochs`` is how far the run goes in all, None
    for one without an end. Raises ValueError for two faults in one slot, naming both; ConfigError for epochs that
    are no whole number of at least 1, and for a schedule that has no end to fall to.
    """

    corpus: TokenSource
    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    faults: tuple[AnyFault, ...] = ()
    seed: int = 0
    dtype: str = "float32"
    parts: str = "fast"
    epochs: int | None = None

    def __post_init__(self) -> None:
        sort_swaps(self.faults)
        if self.epochs is not None:
            require_count("epochs", self.epochs)
        elif self.train.schedule != "constant" and self.train.total_steps is None:
            raise ConfigError(
                f"schedule={self.train.schedule!r} falls until the run ends, and this one has no end: "
                "set epochs, or total_steps"
            )

    @classmethod
    def of(cls, trainer: Trainer, epochs: int | None = None) -> Setup:
        """What a trainer was made from, as far as it can tell: its settings and faults are those of now."""
        model = trainer.model
        return cls(
            corpus=trainer.corpus,
            model=model.config,
            train=trainer.config,
            faults=trainer.faults,
            seed=model.seed,
            dtype=model.dtype.name,
            parts=model.table.name,
            epochs=epochs,
        )

    def machine(self) -> Transformer:
        """The sound machine at its initial weights."""
        return Transformer(self.model, self.seed, self.dtype, by_name(self.parts))

    def trainer(self) -> Trainer:
        """A trainer at its first step. Raises ConfigError or CorpusError for what does not fit together."""
        return Trainer(self.machine(), self.corpus, self.train, self.faults)

    def changed(self, **settings: Any) -> Setup:
        """With other training settings; a weight decay goes with the optimizer it belongs to.

        Raises ConfigError for a value that cannot work, ValueError for a setting that needs a new run.
        """
        fixed = sorted(set(settings) - set(CHANGEABLE))
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)} cannot change while a machine runs, only {', '.join(CHANGEABLE)}; "
                "make a new run with it"
            )
        if settings.get("optimizer", self.train.optimizer) != "adamw":
            settings.setdefault("weight_decay", None)
        return replace(self, train=replace(self.train, **settings))

    def wanted(self, steps_per_epoch: int) -> dict[str, Any]:
        """Every setting that can change while a machine runs, the schedule's end with that of the run."""
        settings = {name: getattr(self.train, name) for name in CHANGEABLE}
        if self.epochs is not None and self.train.schedule != "constant" and settings["total_steps"] is None:
            settings["total_steps"] = self.epochs * steps_per_epoch
        return settings


def takes_effect(fault: AnyFault) -> str:
    """When a fault acts: what it says itself, else what its slots mean."""
    said = getattr(fault, "takes_effect", None)
    if said is None:
        starts = [slot for slot in SLOTS_OF_A_START if slot in fault.swaps]
        said = "step" if not starts else "reset" if starts == ["initialisation"] else "new run"
    return said


def possible_faults(wanted: Sequence[AnyFault], present: Sequence[AnyFault]) -> tuple[AnyFault, ...]:
    """Of the faults that are wanted those that can be in a machine which has the present ones, at its next step.

    Those of the stream of tokens stay as they are; one of the initial weights can be taken out, not put in.
    """
    stay = [fault for fault in present if takes_effect(fault) == "new run"]
    taken = {slot for fault in stay for slot in fault.swaps}
    return (
        *stay,
        *(
            fault
            for fault in wanted
            if not taken & set(fault.swaps) and (takes_effect(fault) == "step" or fault in present)
        ),
    )


def recipe(setup: Setup, changes: Sequence[Change], steps: int, given_at: int | None = None) -> str:
    """A run up to step ``steps`` as Python: corpus, machine, trainer, what was changed on the way, and the run.

    ``given_at``: the steps that a trainer had done when it was handed over, where the run began from it and not from
    a seed. What Python has no name for, such as a fault of one's own, is left as a comment that says so.
    """
    if given_at is None:
        lines = ["import cllm_lab as lab", "", *_beginning(setup)]
    else:
        lines = [f"# trainer: the one that was handed to lab.live, {given_at} steps done"]
    planned: dict[int, dict[str, Any]] = {}
    for step, change in changes:
        planned.setdefault(step, {}).update(change)
    for step in sorted(planned):
        lines += _unnamed(planned[step].get(FAULTS, ()))
        lines.append(_call(f"trainer.at({step}, ", _with_ids(planned[step])))
    taken = steps - (given_at or 0)
    if taken > 0:
        lines.append(f"history = trainer.run(steps={taken})")
    return "\n".join(lines) + "\n"


def _beginning(setup: Setup) -> list[str]:
    defaults = ModelConfig(vocab_size=setup.model.vocab_size, d_model=setup.model.d_model, n_heads=1)
    model = {"vocab_size": setup.model.vocab_size}
    model |= _differing(setup.model, defaults, always=("d_model", "n_heads"))
    choices: dict[str, Any] = {"seed": setup.seed}
    if setup.dtype != "float32":
        choices["dtype"] = setup.dtype
    table = "" if setup.parts == "fast" else f", parts=lab.parts.{setup.parts}"
    train = _differing(setup.train, TrainConfig())
    faults = f", faults={_ids(setup.faults)!r}" if setup.faults else ""
    return [
        f"corpus = {_corpus(setup.corpus)}",
        _call("config = lab.ModelConfig(", model),
        _call("model = lab.Transformer(config, ", choices)[:-1] + f"{table})",
        *_unnamed(setup.faults),
        f"trainer = lab.Trainer(model, corpus, {_call('lab.TrainConfig(', train)}{faults})",
    ]


def _corpus(corpus: TokenSource) -> str:
    description = corpus.description()
    if isinstance(corpus, SyntheticLanguage):
        arguments = {
            each.name: getattr(corpus, each.name)
            for each in fields(corpus)
            if each.name in corpus.parameter_names() and getattr(corpus, each.name) != each.default
        }
        return _call(f"lab.{type(corpus).__name__}(", arguments)
    if description["kind"] == "memory":
        return "corpus  # a text in memory: have it under this name before this line"
    place = description["name" if description["kind"] == "shipped" else "path"]
    chosen = "" if description["tokenizer"] == "word" else f", tokenizer={description['tokenizer']!r}"
    return f"lab.load_corpus({place!r}{chosen})"


def _differing(config: Any, default: Any, always: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        each.name: getattr(config, each.name)
        for each in fields(config)
        if each.name in always or getattr(config, each.name) != getattr(default, each.name)
    }


def _with_ids(change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _ids(value) if name == FAULTS else value for name, value in change.items()}


def _ids(faults: Sequence[AnyFault]) -> tuple[str, ...]:
    return tuple(fault.id for fault in faults)


def _unnamed(faults: Sequence[AnyFault]) -> list[str]:
    return [
        f"# {fault.id} is not in the catalogue: put the fault itself in the place of its id"
        for fault in faults
        if catalogue().get(fault.id) is not fault
    ]


def _call(opening: str, arguments: Mapping[str, Any]) -> str:
    return opening + ", ".join(f"{name}={_plain(value)!r}" for name, value in arguments.items()) + ")"


def _plain(value: Any) -> Any:
    """Without NumPy's types, whose representation Python cannot read."""
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def title(fault: AnyFault) -> str:
    """What a fault is called; its id where it has no title."""
    return fault.title if isinstance(fault, Fault) else fault.id
