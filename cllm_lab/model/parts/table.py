"""Parts and the tables they stand in.

A *part* fills one slot of the machine with a forward and a backward function of one signature:

    y  = forward(x, site)          reads site.params and site.run, saves in site.saved what backward needs
    dx = backward(dy, site)        reads what forward saved, adds its parameters' gradients to the site

Three slots have another number of inputs: ``residual`` takes (x, branch, site) and gives back (dx, dbranch);
``mask`` takes (T, site) and has no backward; ``loss`` gives back (dlogits, dfinal_hidden), either of which
may be None.
Functions are pure but for what they write to their site. A *table* offers named parts for each slot; a
configuration chooses among them; `ModelParts.replace` swaps one slot, or with a `PartEdit` one half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from dataclasses import replace as dataclass_replace
from typing import Any

from cllm_lab.model.config import ModelConfig


def no_backward(*inputs: Any) -> Any:
    """The backward of a part that has none. Raises RuntimeError."""
    raise RuntimeError("this part has no backward pass")


@dataclass(frozen=True)
class Part:
    """A forward function and the backward function that belongs to it, under a name."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] = no_backward


@dataclass(frozen=True)
class PartEdit:
    """A change of a part: its other forward, its other backward, or both; the half that is None stays as it is.

    It makes one change of both tables, which keep their own other half.
    """

    name: str
    forward: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None

    def applied_to(self, part: Part) -> Part:
        """The part that comes of it."""
        return Part(self.name, self.forward or part.forward, self.backward or part.backward)


@dataclass(frozen=True)
class ModelParts:
    """One part for each slot: a whole machine, chosen from a table. The field names are the slots."""

    transformer: Part
    block: Part
    embedding: Part
    positions: Part
    dropout: Part
    norm: Part
    residual: Part
    attention: Part
    qkv: Part
    heads: Part
    keys: Part
    symmetry: Part
    scores: Part
    bias: Part
    mask: Part
    softmax: Part
    mix: Part
    w_out: Part
    feed_forward: Part
    activation: Part
    output: Part
    loss: Part

    def replace(self, **swaps: Part | PartEdit) -> ModelParts:
        """The same machine with some slots swapped, or edited.

        Raises ValueError naming a slot that does not exist, TypeError for what is neither Part nor PartEdit.
        """
        unknown = sorted(set(swaps) - set(SLOTS))
        if unknown:
            raise ValueError(f"no slot {', '.join(unknown)}; the slots are {', '.join(SLOTS)}")
        parts = {}
        for slot, swap in swaps.items():
            part = swap.applied_to(getattr(self, slot)) if isinstance(swap, PartEdit) else swap
            if not isinstance(part, Part):
                raise TypeError(
                    f"slot {slot} must be filled by a Part or changed by a PartEdit; got {part!r}"
                )
            parts[slot] = part
        return dataclass_replace(self, **parts)


SLOTS = tuple(field.name for field in fields(ModelParts))


@dataclass(frozen=True)
class PartsTable:
    """Named parts for each slot. ``name`` is what a checkpoint remembers of it."""

    name: str
    slots: Mapping[str, Mapping[str, Part]]

    def choose(self, config: ModelConfig) -> ModelParts:
        """The healthy machine of a configuration: its choice where it has one, else the slot's only part."""
        choice = {
            "block": config.norm,
            "positions": config.positions,
            "attention": config.attention,
            "activation": config.activation,
            "heads": "split" if config.keys == "projected" else "shared",
            "keys": config.keys,
            "symmetry": config.head_symmetry,
            "bias": config.attention_bias,
            "output": "tied" if config.tied else "untied",
        }
        chosen = {}
        for slot in SLOTS:
            offered = self.slots[slot]
            name = choice.get(slot, next(iter(offered)))
            chosen[slot] = offered[name]
        return ModelParts(**chosen)


def table(name: str, *parts: tuple[str, Part]) -> PartsTable:
    """A table from (slot, part) pairs. Raises ValueError for a slot left empty or unknown."""
    slots: dict[str, dict[str, Part]] = {slot: {} for slot in SLOTS}
    for slot, part in parts:
        if slot not in slots:
            raise ValueError(f"no slot {slot!r}; the slots are {', '.join(SLOTS)}")
        slots[slot][part.name] = part
    empty = [slot for slot, offered in slots.items() if not offered]
    if empty:
        raise ValueError(f"table {name!r} has no part for {', '.join(empty)}")
    return PartsTable(name, slots)
