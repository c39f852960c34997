"""Parameters: one flat buffer laid out [embedding | attention | ff | ln], with named views into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cllm_lab.model.config import ModelConfig

Array = NDArray[Any]
GROUPS = ("embedding", "attention", "ff", "ln")


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor: its shape, the group it lies in, and what an initialiser must know of it.

    ``role``: "embedding", "matrix", "residual" (a matrix that ends a sub-layer), "bias", "gain" or "strength".
    """

    name: str
    shape: tuple[int, ...]
    group: str
    role: str
    fan_in: int = 0
    fan_out: int = 0

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape))


def layout(config: ModelConfig) -> tuple[TensorSpec, ...]:
    """Every tensor of a machine in the order of the flat buffer.

    The layout follows from the configuration alone, never from the parts, so that parts can be swapped
    while a machine runs.
    """
    V, T, C, F = config.vocab_size, config.context_length, config.d_model, config.width_ff
    specs = [TensorSpec("token_embedding", (V, C), "embedding", "embedding", V, C)]
    if config.positions == "learned":
        specs.append(TensorSpec("position_embedding", (T, C), "embedding", "embedding", T, C))
    if not config.tied:
        specs.append(TensorSpec("output_embedding", (V, C), "embedding", "embedding", V, C))
    for i in range(config.n_layers):
        at = f"layers.{i}."
        if config.attention != "none":
            specs += [
                TensorSpec(at + "w_qkv", (C, config.qkv_width), "attention", "matrix", C, C),
                TensorSpec(at + "b_qkv", (config.qkv_width,), "attention", "bias"),
                TensorSpec(at + "w_out", (C, C), "attention", "residual", C, C),
                TensorSpec(at + "b_out", (C,), "attention", "bias"),
            ]
            if config.has_strengths:
                specs.append(TensorSpec(at + "bias_strength", (config.n_heads,), "attention", "strength"))
            specs += _norm(at + "ln1", C)
        specs += [
            TensorSpec(at + "w_ff1", (C, F), "ff", "matrix", C, F),
            TensorSpec(at + "b_ff1", (F,), "ff", "bias"),
            TensorSpec(at + "w_ff2", (F, C), "ff", "residual", F, C),
            TensorSpec(at + "b_ff2", (C,), "ff", "bias"),
        ]
        specs += _norm(at + "ln2", C)
    if config.norm == "pre":
        specs += _norm("ln_final", C)
    return tuple(sorted(specs, key=lambda spec: GROUPS.index(spec.group)))


def _norm(name: str, width: int) -> list[TensorSpec]:
    return [
        TensorSpec(f"{name}.gamma", (width,), "ln", "gain"),
        TensorSpec(f"{name}.beta", (width,), "ln", "bias"),
    ]


class Parameters(Mapping[str, Array]):
    """Mapping name -> view into one flat buffer. Gradients and optimizer moments have the same form.

    ``flat`` is the buffer (n,), ``specs`` its layout, ``slices[name]`` where a tensor lies in it,
    ``group_slices[group]`` where a whole group lies. Writing into a view writes into ``flat``.
    """

    def __init__(self, specs: tuple[TensorSpec, ...], flat: Array) -> None:
        total = sum(spec.size for spec in specs)
        if flat.shape != (total,):
            raise ValueError(f"flat must have shape ({total},) for these tensors; got {flat.shape}")
        self.specs = specs
        self.flat = flat
        self.slices: dict[str, slice] = {}
        self._views: dict[str, Array] = {}
        self._scopes: dict[str, dict[str, Array]] = {}
        start = 0
        for spec in specs:
            place = slice(start, start + spec.size)
            start = place.stop
            view = flat[place].reshape(spec.shape)
            self.slices[spec.name] = place
            self._views[spec.name] = view
            scope, _, short = spec.name.rpartition(".")
            self._scopes.setdefault(scope, {})[short] = view
        self.group_slices: dict[str, slice] = {}
        start = 0
        for group in GROUPS:
            size = sum(spec.size for spec in specs if spec.group == group)
            self.group_slices[group] = slice(start, start + size)
            start += size

    @classmethod
    def zeros(cls, config: ModelConfig, dtype: DTypeLike) -> Parameters:
        """All tensors of a machine, zero."""
        specs = layout(config)
        return cls(specs, np.zeros(sum(spec.size for spec in specs), dtype))

    def like(self, flat: Array | None = None) -> Parameters:
        """The same layout over another buffer; over a new one of zeros where none is given."""
        return Parameters(self.specs, np.zeros_like(self.flat) if flat is None else flat)

    def copy(self) -> Parameters:
        """The same values in a buffer of their own."""
        return self.like(self.flat.copy())

    def scope(self, name: str) -> dict[str, Array] | None:
        """The tensors directly under a place, by short name: ``scope("layers.0")["w_qkv"]``; None if none lie there."""
        return self._scopes.get(name)

    def group(self, name: str) -> Array:
        """Flat view of one of the four groups."""
        return self.flat[self.group_slices[name]]

    def __getitem__(self, name: str) -> Array:
        try:
            return self._views[name]
        except KeyError:
            raise KeyError(f"no tensor {name!r}; the names are {', '.join(self._views)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"Parameters({len(self)} tensors, {self.flat.size:,} numbers, {self.flat.dtype})"
