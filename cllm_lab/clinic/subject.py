"""A subject: whatever the probes examine, a trainer of this library or anybody's hand-written training code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from cllm_lab.model.parameters import Array


class Subject(Protocol):
    """What a probe may ask of a machine, and nothing else.

    ``params``: name -> live array; writing into it changes the machine. ``loss`` (inputs, targets) -> nats;
    ``gradients`` (inputs, targets) -> (loss, name -> array); ``forward`` (inputs) -> something with ``.logits``
    (B, T, V); ``step`` (inputs, targets): one optimizer step. inputs and targets: token ids (B, T).
    A subject may also have ``state()`` and ``load_state(state)``, for what a step changes besides the parameters.
    """

    @property
    def params(self) -> Mapping[str, Array]:
        """Name -> live array."""
        ...

    def loss(self, inputs: Any, targets: Any) -> float:
        """In nats."""
        ...

    def gradients(self, inputs: Any, targets: Any) -> tuple[float, Mapping[str, Array]]:
        """(loss, name -> gradient)."""
        ...

    def forward(self, inputs: Any) -> Any:
        """Something with ``.logits``, (B, T, V)."""
        ...

    def step(self, inputs: Any, targets: Any) -> Any:
        """One optimizer step, in place."""
        ...


def require_subject(subject: Any) -> None:
    """Raises TypeError naming what the subject lacks."""
    missing = [
        name for name in ("params", "loss", "gradients", "forward", "step") if not hasattr(subject, name)
    ]
    if missing:
        raise TypeError(
            f"subject must have params, loss, gradients, forward and step; {type(subject).__name__} lacks "
            f"{', '.join(missing)}. For functions of your own, lab.adapt.functions makes a subject"
        )


def keeps_state(subject: Subject) -> bool:
    """Whether everything that a step changes can be put back: the subject has ``state`` and ``load_state``."""
    return hasattr(subject, "state") and hasattr(subject, "load_state")


@contextmanager
def restored(subject: Subject) -> Iterator[None]:
    """Within: do what you like. Afterwards the parameters, and the state where there is one, are as before.

    Bit for bit, also when the block raises. Without ``state`` what a step changes besides the parameters (moments,
    a step counter) stays changed; a probe that steps must say so (`keeps_state`).
    """
    before = {name: array.copy() for name, array in subject.params.items()}
    state = subject.state() if keeps_state(subject) else None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, array in before.items():
            subject.params[name][...] = array
        if state is not None:
            subject.load_state(state)  # type: ignore[attr-defined]
