"""Document 004's picture of what is trainable, drawn from a measured step instead of from hope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from numpy.typing import ArrayLike

from cllm_lab.model.parameters import GROUPS
from cllm_lab.training.diagnostics import TensorRow
from cllm_lab.training.trainer import Trainer

TITLES = {
    "embedding": "Embeddings",
    "attention": "Attention",
    "ff": "Feed-forward",
    "ln": "Layer norm",
}
VERDICT_WIDTH = 16


def training_diagram(trainer: Trainer, tokens: ArrayLike, targets: ArrayLike) -> str:
    """Boxes for embeddings, attention, feed-forward and layer norm, with what a step on this batch does to each.

    TRAINABLE: whether the optimizer updates the tensors of a box; gradients: whether theirs have an entry that
    is not 0; updates: whether their numbers change. A box of which only a part does says how much of it.
    Raises what `Trainer.tensor_rows` raises.
    """
    rows = trainer.tensor_rows(tokens, targets)
    boxes = {group: _group_box(group, [r for r in rows if r.group == group]) for group in GROUPS}
    in_layers = [line for group in GROUPS[1:] for line in boxes[group]]
    layers = _box(
        [f"Transformer layers (x {trainer.model.config.n_layers})", *in_layers],
        _trainable([row for row in rows if row.group != "embedding"]),
    )
    parts = [["Input tokens"], boxes["embedding"], layers, ["Output, loss"]]
    return "\n    ↓\n".join("\n".join(part) for part in parts)


def _group_box(group: str, rows: Sequence[TensorRow]) -> list[str]:
    if not rows:
        return _box([TITLES[group], "- no tensors"], "")
    content = [
        TITLES[group],
        f"- gradients: {_share(row.gradient > 0.0 for row in rows)}",
        f"- updates: {_share(row.update > 0.0 for row in rows)}",
    ]
    return _box(content, _trainable(rows))


def _trainable(rows: Sequence[TensorRow]) -> str:
    share = _share(row.trainable for row in rows)
    return {"yes": "TRAINABLE", "no": "NOT TRAINABLE"}.get(share, f"{share} TRAINABLE")


def _share(answers: Iterable[bool]) -> str:
    given = list(answers)
    if all(given):
        return "yes"
    return f"{sum(given)} of {len(given)}" if any(given) else "no"


def _box(content: Sequence[str], verdict: str) -> list[str]:
    """Lines in a frame; the verdict stands in the first one."""
    width = max(len(content[0]) + 2 + VERDICT_WIDTH, *(len(line) for line in content[1:]), 34)
    first = f"{content[0]:<{width - VERDICT_WIDTH}}{verdict:<{VERDICT_WIDTH}}"
    lines = [first, *content[1:]]
    return [f"┌{'─' * (width + 2)}┐", *(f"│ {line:<{width}} │" for line in lines), f"└{'─' * (width + 2)}┘"]
