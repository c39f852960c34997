"""The way from the original's machine to a healthy one: its repairs, each made or not, and what a machine learns.

A machine is named by the repairs that are made in it. With none it is the original's before document 002; with
all of them it is this engine's default. Whatever a repair would change is still broken where it is not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.faults import attention, losses, wiring
from cllm_lab.faults.fault import Fault, large_corpus
from cllm_lab.faults.gradients import embeddings_only
from cllm_lab.faults.historical import (
    LEARNING_RATE,
    ORIGINAL_WIDTH,
    attention_passed_by_backward,
    block_diagonal_qkv_backward,
    block_diagonal_qkv_forward,
    no_w_out_backward,
    no_w_out_forward,
    original_block_backward,
    original_block_forward,
    signed_exp_softmax_backward,
)
from cllm_lab.faults.initialisation import all_zero_announced
from cllm_lab.model.config import ModelConfig, require_count
from cllm_lab.model.parameters import Array
from cllm_lab.model.parts import Part, PartEdit, PartsTable
from cllm_lab.model.transformer import Pass, Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.trainer import Trainer

EPOCHS = 16
D_MODEL = 32
_SIZE = {"d_model": D_MODEL, "n_heads": 4, "n_layers": 1, "d_ff": 2 * D_MODEL}
# One step of the output changes a token's logit by rate |h|^2, and |h|^2 is about the width: this rate moves a
# logit of the small machine as far as the original's own rate moved one of the original.
_SGD_RATE = LEARNING_RATE * ORIGINAL_WIDTH / D_MODEL
_ADAM_RATE = 1e-2


@dataclass(frozen=True)
class Repair:
    """One repair, described by what is in the machine until it is made.

    ``source``: the document and place that asks for it or reports it, or where else it comes from.
    ``swaps``: slot -> broken part; ``model`` and ``train``: broken settings of `ModelConfig` and `TrainConfig`.
    """

    name: str
    title: str
    source: str
    swaps: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Repaired:
    """What a machine with these repairs did in so many epochs.

    ``printed``: the loss that it reported, a mean for each complete epoch; ``loss``: cross-entropy of its logits over
    the text after the last step, in nats, whatever it reported; ``moved``: how many of its ``size`` numbers have other
    bits than at the start; ``broke_off``: the number of the step whose loss or gradient was not finite, or None.
    """

    made: tuple[str, ...]
    printed: tuple[float, ...]
    loss: float
    moved: int
    size: int
    broke_off: int | None


_IN_ORDER = (
    Repair(
        "loss",
        "Print the loss of the logits, not one of the token ids",
        "002 'Progress Made', issue 1",
        {"reported_loss": losses.loss_from_ids},
    ),
    Repair(
        "layers",
        "Pass through the layers, not by them",
        "002 'Progress Made', issue 2",
        {"block": Part("skipped", wiring.skipped_block_forward, wiring.skipped_block_backward)},
    ),
    Repair(
        "updates",
        "Update every tensor, not the embeddings alone",
        "002 'Progress Made', issue 3",
        {"trainable": embeddings_only},
    ),
    Repair(
        "gradient",
        "Follow the gradient of the cross-entropy, not of a squared error",
        "002 'Option 1', 003 'Proper Cross-Entropy Backward Pass'",
        {"loss": PartEdit("mse-gradient", backward=losses.mse_gradient_backward)},
    ),
    Repair(
        "attention",
        "Attend, instead of doubling the input",
        "000 'Priority 1', 001 'Fixed Attention Mechanism'",
        {
            "attention": Part(
                "doubled", attention.doubled_attention_forward, attention.doubled_attention_backward
            )
        },
    ),
    Repair(
        "backward",
        "Go back through the attention, and to the input's embedding",
        "004 'What's Missing', 'Full Attention Backward'",
        {
            "attention": PartEdit("passed-by", backward=attention_passed_by_backward),
            "embedding": PartEdit("no-input-gradient", backward=wiring.embedding_backward_dropped),
        },
    ),
    Repair(
        "weights",
        "Draw the initial weights, instead of announcing it",
        "000 'Root Causes' 1, 'Priority 3': asked for, not checked",
        {"initialisation": all_zero_announced},
    ),
    Repair(
        "heads",
        "Read whole rows for Q, K and V with the right stride, take a real exp, and project the heads",
        "found in the original",
        {
            "qkv": Part(
                "block-diagonal",
                block_diagonal_qkv_forward,
                block_diagonal_qkv_backward,
            ),
            "heads": Part("strided", attention.strided_heads_forward, attention.strided_heads_backward),
            "softmax": Part(
                "signed-exp",
                attention.signed_exp_softmax_forward,
                signed_exp_softmax_backward,
            ),
            "w_out": Part("none", no_w_out_forward, no_w_out_backward),
        },
    ),
    Repair(
        "mask",
        "Hide the tokens that are still to come",
        "found in the original",
        {"mask": Part("none", attention.no_causal_mask)},
    ),
    Repair(
        "block",
        "Add the attention to its input, and norm before each sub-layer",
        "found in the original; 003 reports residual connections",
        {"block": Part("original", original_block_forward, original_block_backward)},
        {"norm": "post"},
    ),
    Repair(
        "positions",
        "Tell the model where a token stands",
        "found in the original",
        model={"positions": "none"},
    ),
    Repair(
        "optimizer",
        "Adam at 0.01, clipped, on shuffled windows, instead of plain SGD in the order of the text",
        "000 section 8, 'No momentum, no Adam'",
        train={
            "optimizer": "sgd",
            "learning_rate": _SGD_RATE,
            "clip_norm": None,
            "shuffle": False,
        },
    ),
)
REPAIRS: Mapping[str, Repair] = MappingProxyType({repair.name: repair for repair in _IN_ORDER})


def trainer_with(
    made: Iterable[str], seed: int = 0, dtype: str = "float32", parts: PartsTable | None = None
) -> Trainer:
    """A trainer at its first step, on the shipped text, in which the named repairs are made and no others.

    Of two unmade repairs that fill one slot, the earlier in `REPAIRS` shows; a change of one half is applied to
    what stands there. Raises ValueError for a name that is no repair or is given twice.
    """
    names = _checked(made)
    unmade = [repair for name, repair in REPAIRS.items() if name not in names]
    corpus = large_corpus()
    model: dict[str, Any] = {"vocab_size": corpus.vocab_size, **_SIZE}
    train: dict[str, Any] = {"learning_rate": _ADAM_RATE, "seed": seed}
    for repair in unmade:
        model |= repair.model
        train |= repair.train
    machine = Transformer(ModelConfig(**model), seed, dtype, parts)
    return Trainer(machine, corpus, TrainConfig(**train), (_as_fault(unmade),) if unmade else ())


def learned(made: Iterable[str], epochs: int = EPOCHS, seed: int = 0) -> Repaired:
    """What the machine with these repairs learns in so many epochs. Computed once for each set, epochs and seed.

    Raises as `trainer_with`, ConfigError for ``epochs`` below 1.
    """
    return _learned(frozenset(_checked(made)), require_count("epochs", epochs), seed)


@cache
def _learned(made: frozenset[str], epochs: int, seed: int) -> Repaired:
    trainer = trainer_with(made, seed)
    before = trainer.params.flat.copy()
    broke_off = None
    try:
        trainer.run(epochs=epochs, progress=False)
    except NonFiniteError as error:
        broke_off = error.step
    after = trainer.params.flat
    return Repaired(
        made=tuple(name for name in REPAIRS if name in made),
        printed=tuple(trainer.history.epoch_loss),
        loss=text_loss(trainer),
        moved=int(np.count_nonzero(before.view(np.uint32) != after.view(np.uint32))),
        size=after.size,
        broke_off=broke_off,
    )


def in_order(order: Sequence[str], epochs: int = EPOCHS, seed: int = 0) -> tuple[Repaired, ...]:
    """The machines on the way: with no repair of ``order``, with the first, with the first two, to all of it.

    Each is a new machine, trained from its first step. Raises as `learned`.
    """
    names = _checked(order)
    return tuple(learned(names[:n], epochs, seed) for n in range(len(names) + 1))


def every_combination(
    names: Sequence[str], others: Iterable[str] = (), epochs: int = EPOCHS, seed: int = 0
) -> Array:
    """`Repaired.loss` of every combination of the named repairs, with ``others`` made: (2,) * n, 1 where made.

    Raises as `learned`; a name must not be in both.
    """
    made = _checked(others)
    _checked((*names, *made))
    losses = np.empty((2,) * len(names))
    for place in np.ndindex(losses.shape):
        chosen = tuple(name for name, here in zip(names, place, strict=True) if here)
        losses[place] = learned((*made, *chosen), epochs, seed).loss
    return losses


# What a run that broke off left behind may overflow; its loss is then NaN or infinite.
@np.errstate(all="ignore")
def text_loss(trainer: Trainer) -> float:
    """Mean of the machine's loss over its whole text in nats, whatever the trainer reports. Nothing is changed."""
    config = trainer.config
    total, count = 0.0, 0
    fresh = Pass(trainer.model)
    for batch in epoch_batches(trainer.corpus.tokens, config.batch_size, config.sequence_length, False, 0, 0):
        fresh.forward(batch.inputs)
        total += fresh.loss(batch.targets) * batch.targets.size
        count += batch.targets.size
    return total / count


def _checked(made: Iterable[str]) -> tuple[str, ...]:
    names = (made,) if isinstance(made, str) else tuple(made)
    if any(name not in REPAIRS for name in names) or len(set(names)) != len(names):
        raise ValueError(f"repairs must be some of {', '.join(REPAIRS)}, each once; got {list(names)}")
    return names


def _as_fault(unmade: Sequence[Repair]) -> Fault:
    """All that is still broken, as one fault."""
    parts = [(slot, part) for repair in unmade for slot, part in repair.swaps.items()]
    swaps: dict[str, Any] = {}
    for slot, part in parts:
        if not isinstance(part, PartEdit):
            swaps.setdefault(slot, part)
    for slot, part in parts:
        if isinstance(part, PartEdit):
            swaps[slot] = part.applied_to(swaps[slot]) if slot in swaps else part
    return Fault(
        id="unrepaired",
        title=f"Still to be repaired: {', '.join(repair.name for repair in unmade)}",
        swaps=swaps,
        source="the original",
        symptom="Depends on what is still to be repaired.",
        signature="See the repairs one by one.",
        remedy="The repairs that are not made.",
        takes_effect="new run",
    )
