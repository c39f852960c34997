"""Faults of what happens to a sound gradient: groups that it is not kept for, or not used for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cllm_lab.faults.fault import Fault
from cllm_lab.model.parameters import GROUPS, Parameters, TensorSpec


def embeddings_only_backward(training_pass: Any) -> Parameters:
    """The gradient of the loss for the embedding group; exactly 0 for attention, feed-forward and norms."""
    grads = training_pass.backward()
    for group in GROUPS:
        if group != "embedding":
            grads.group(group)[...] = 0.0
    return grads


def embeddings_only(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The tensors that the optimizer updates: those of the embedding group."""
    return tuple(spec.name for spec in specs if spec.group == "embedding")


FAULTS = (
    Fault(
        id="embeddings-only-backward",
        title="A backward pass that stops at the embeddings",
        swaps={"gradient_rule": embeddings_only_backward},
        source="004 'What's Partial', backward pass",
        symptom="None: training was announced as working, for the embedding layer.",
        signature="The gradients of attention, feed-forward and norms are exactly 0 where the loss depends on "
        "their weights; those of the embedding group agree with finite differences. The loss falls all the "
        "same: its curve does not give the fault away.",
        remedy="Keep the gradient of every group.",
    ),
    Fault(
        id="embeddings-only-update",
        title="An optimizer that updates the embeddings alone",
        swaps={"trainable": embeddings_only},
        source="002 'Progress Made', issue 3; 004 'What's Partial', parameter updates",
        symptom="None: the optimizer was said to work, for the embeddings.",
        signature="Every gradient agrees with finite differences, and a step leaves attention, feed-forward and "
        "norms as they were to the last bit. The loss falls all the same.",
        remedy="Hand every tensor to the optimizer.",
    ),
)
