"""Queries, keys and values apart: a machine whose probes see each third of its attention weights by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cllm_lab.clinic.subject import Subject, require_subject
from cllm_lab.model.parameters import Array

THIRDS = ("queries", "keys", "values")
_WHOLE = ("w_qkv", "b_qkv")


class QkvThirds:
    """A subject's own weights and answers, with w_qkv (C, 3 C) and b_qkv (3 C,) of every layer in three pieces.

    The pieces are named as `layers.0.w_qkv.queries` and are views: what is written into them is written into the
    machine. Everything else that a subject has is its own.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        # A copy that is being made has no subject yet; without this the search for it would not end.
        if name == "_subject":
            raise AttributeError(name)
        return getattr(self._subject, name)

    @property
    def params(self) -> dict[str, Array]:
        """Name -> live array."""
        return _in_thirds(self._subject.params)

    def gradients(self, inputs: Any, targets: Any) -> tuple[float, dict[str, Array]]:
        """(loss, name -> gradient) of the subject."""
        loss, grads = self._subject.gradients(inputs, targets)
        return loss, _in_thirds(grads)


def qkv_thirds(subject: Subject) -> QkvThirds:
    """The subject with queries, keys and values apart, for any probe.

    Raises TypeError for what is no subject, ValueError where it has no tensor called w_qkv, or one whose last
    dimension is not divisible by 3.
    """
    require_subject(subject)
    if not any(_is_whole(name) for name in subject.params):
        raise ValueError(f"subject has no tensor w_qkv; it has {', '.join(subject.params)}")
    for name, array in subject.params.items():
        # Of a matrix the other dimension tells thirds from halves, as in machines whose keys are their queries.
        thirds = array.shape[-1] % len(THIRDS) == 0
        if _is_whole(name) and not (thirds and (array.ndim < 2 or array.shape[-1] != 2 * array.shape[-2])):
            raise ValueError(
                f"{name} must end in a dimension of three equal parts, queries, keys and values; got {array.shape}"
            )
    return QkvThirds(subject)


def _is_whole(name: str) -> bool:
    return name.rpartition(".")[2] in _WHOLE


def _in_thirds(arrays: Mapping[str, Array]) -> dict[str, Array]:
    pieces = {}
    for name, array in arrays.items():
        if _is_whole(name):
            split = np.split(array, len(THIRDS), axis=-1)
            pieces.update({f"{name}.{third}": piece for third, piece in zip(THIRDS, split, strict=True)})
        else:
            pieces[name] = array
    return pieces
