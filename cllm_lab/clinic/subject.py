"""A subject: whatever the probes examine, a trainer of this library or anybody's hand-written training code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from cllm_lab.model.parameters import Array

MOST_LISTED = 6


class Subject(Protocol):
    """What a probe may ask of a machine, and nothing else.

    ``params``: name -> live array; writing into it changes the machine. ``loss`` (inputs, targets) -> nats;
    ``gradients`` (inputs, targets) -> (loss, name -> array); ``forward`` (inputs) -> something with ``.logits``
    (B, T, V); ``step`` (inputs, targets): one optimizer step. inputs and targets: token ids (B, T).
    A subject may also have ``state()`` and ``load_state(state)``, for what a step changes besides the parameters;
    a state is a copy, which no later step changes.
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
    """Raises TypeError naming what the subject lacks, and as `require_parameters`."""
    missing = [
        name for name in ("params", "loss", "gradients", "forward", "step") if not hasattr(subject, name)
    ]
    if missing:
        raise TypeError(
            f"subject must have params, loss, gradients, forward and step; {type(subject).__name__} lacks "
            f"{', '.join(missing)}. For functions of your own, lab.adapt.functions makes a subject"
        )
    require_parameters(subject.params)
    # An array that is made anew at each reading would take every change of a probe, and change no machine.
    again = subject.params
    for name, array in subject.params.items():
        if not np.may_share_memory(array, again[name]):
            raise TypeError(
                f"params must give the live arrays; two readings gave {name!r} in two places, so that writing "
                "into it changes nothing. Give the arrays that the machine computes with"
            )


def require_parameters(params: Any) -> None:
    """Raises TypeError for what is no mapping of names to writable arrays of floats, ValueError for an empty one."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping from names to arrays; got {type(params).__name__}")
    if not params:
        raise ValueError("params is empty; give at least one named array")
    for name, array in params.items():
        if not isinstance(name, str):
            raise TypeError(f"params must have names (str) as keys; got {name!r}")
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            given = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"params[{name!r}] must be a NumPy array of floats; got {given}")
        if not array.size:
            raise ValueError(f"params[{name!r}] is empty, shape {array.shape}; leave it out")
        if not array.flags.writeable:
            raise TypeError(f"params[{name!r}] is read-only; a probe must be able to perturb it")


def require_gradients(params: Mapping[str, Array], found: Any) -> tuple[float, Mapping[str, Array]]:
    """What a subject's ``gradients`` gave, where it is (loss, name -> array) with the names and shapes of params.

    Raises TypeError or ValueError naming what differs.
    """
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"gradients must return (loss, mapping of gradients); got {type(found).__name__}")
    loss, grads = require_loss(found[0]), found[1]
    if not isinstance(grads, Mapping):
        raise TypeError(f"gradients must return a mapping as its second value; got {type(grads).__name__}")
    missing, unknown = sorted(set(params) - set(grads)), sorted(set(grads) - set(params))
    if missing or unknown:
        raise ValueError(
            f"gradients must have the names of params, {', '.join(params)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(map(str, unknown)) or 'none'}"
        )
    for name, array in params.items():
        if not isinstance(grads[name], np.ndarray) or grads[name].dtype.kind != "f":
            raise TypeError(
                f"the gradient of {name!r} must be a NumPy array of floats; got {type(grads[name]).__name__}"
            )
        if grads[name].shape != array.shape:
            raise ValueError(
                f"the gradient of {name!r} must have the shape of the parameter, {array.shape}; "
                f"got {grads[name].shape}"
            )
    return loss, grads


def require_loss(loss: Any) -> float:
    """The loss as a float. Raises TypeError for what is not one real number."""
    value = np.asarray(loss)
    if value.ndim or value.dtype.kind not in "fiu":
        raise TypeError(
            f"a loss must be one real number; got {type(loss).__name__} of shape {value.shape}, "
            f"dtype {value.dtype}"
        )
    return float(value)


def require_logits(logits: Any, shape: tuple[int, ...]) -> Array:
    """The logits, where they are an array of floats (B, T, V) for inputs of the given shape (B, T).

    Raises TypeError or ValueError otherwise.
    """
    if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f":
        given = f"dtype {logits.dtype}" if isinstance(logits, np.ndarray) else type(logits).__name__
        raise TypeError(f"logits must be a NumPy array of floats; got {given}")
    if logits.ndim != 3 or logits.shape[:2] != shape or not logits.shape[2]:
        raise ValueError(
            f"logits must have shape (B, T, V) with B, T = {shape}, those of inputs; got {logits.shape}"
        )
    return logits


def require_ids(name: str, ids: Any) -> Array:
    """Token ids as an int64 array (B, T). Raises ValueError or TypeError naming the argument."""
    try:
        array = np.asarray(ids)
    except ValueError as ragged:
        raise ValueError(f"{name} must be rows of equal length: {ragged}") from ragged
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold whole numbers (token ids); got dtype {array.dtype}")
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must have shape (batch, positions), neither empty; got shape {array.shape}")
    return array.astype(np.int64)


def rounding_unit(params: Mapping[str, Array]) -> float:
    """The distance from 1 to the next number, in the coarsest dtype of the parameters."""
    return max(float(np.finfo(array.dtype).eps) for array in params.values())


def keeps_state(subject: Subject) -> bool:
    """Whether everything that a step changes can be put back: the subject has ``state`` and ``load_state``."""
    return hasattr(subject, "state") and hasattr(subject, "load_state")


@contextmanager
def restored(subject: Subject) -> Iterator[None]:
    """Within: do what you like. Afterwards the parameters, and the state where there is one, are as before.

    Bit for bit, also when the block raises. Without ``state`` what a step changes besides the parameters (moments,
    a step counter) stays changed; a probe that steps must say so (`keeps_state`).
    Raises RuntimeError where the block has put an array of another shape or dtype into a params that cannot be
    written to.
    """
    arrays = dict(subject.params)
    before = {name: array.copy() for name, array in arrays.items()}
    state = subject.state() if keeps_state(subject) else None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, array in arrays.items():
            array[...] = before[name]
            _put_back(subject, name, array)
        if state is not None:
            subject.load_state(state)  # type: ignore[attr-defined]


def _put_back(subject: Subject, name: str, array: Array) -> None:
    """Sees to it that the subject computes with these values, where a step may have made itself a new array."""
    params = subject.params
    present = params.get(name)
    if present is array:
        return
    if isinstance(params, MutableMapping):
        params[name] = array
        present = subject.params.get(name)
    if present is None or present.shape != array.shape or present.dtype != array.dtype:
        raise RuntimeError(
            f"params[{name!r}] was {array.dtype} {array.shape} and has been replaced by "
            f"{'nothing' if present is None else f'{present.dtype} {present.shape}'}; it cannot be put back"
        )
    present[...] = array


def listed(names: Sequence[str]) -> str:
    """The names in a line, the first of them where they are many."""
    shown = ", ".join(names[:MOST_LISTED])
    return shown if len(names) <= MOST_LISTED else f"{shown} and {len(names) - MOST_LISTED} more"
