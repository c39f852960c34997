"""The original's machine in this engine: what it computed at each state of its code, and what it printed.

Its block is post-norm in a form of its own, a = MHA(x), y = LN(a + W_2 tanh(W_1 a + b_1) + b_2): no residual around
the attention, one layer norm a layer, no W_o, no final norm. The output is tied, there is no causal mask and there
are no positions. It trained with plain SGD at a rate of 0.001, without clipping, in the order of the text.

The losses kept here are the original's, on its own text and ids. This engine's are computed on the shipped text;
the two can be compared where neither text nor ids matter, as at ln V. How the original drew its weights in the states
"with random embeddings" is inferred from its first losses.

B batch, T positions, C = d_model, H heads, D = d_head = C / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cllm_lab.faults import attention, losses, wiring
from cllm_lab.faults.data import sorted_stream, whole_batches
from cllm_lab.faults.fault import Fault, large_corpus
from cllm_lab.faults.initialisation import all_zero_announced
from cllm_lab.model.activations import Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.initialisers import INITIALISERS, initialise
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import Part, PartEdit, PartsTable
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer

LEARNING_RATE = 1e-3
# Uniform between these bounds at C = 512, embeddings give the original's first losses: 14.68 with the doubled input,
# where a normalised token has the logit 14.8 for itself, and 9.41 with a real initialisation.
EMBEDDING_BOUND = 0.05
ORIGINAL_WIDTH = 512


@dataclass(frozen=True)
class HistoricalSize:
    """A size of the machine and of its batches. `FULL` is the original's, `SMALL` runs in seconds."""

    vocab_size: int = 10_000
    d_model: int = 512
    n_layers: int = 6
    n_heads: int = 8
    d_ff: int = 2048
    batch_size: int = 4
    sequence_length: int = 32


FULL = HistoricalSize()
SMALL = HistoricalSize(d_model=64, d_ff=256)
SIZES = {"small": SMALL, "full": FULL}

# The block.


def original_block_forward(x: Array, site: Site) -> Array:
    """a = attention(x);  y = norm(a + ff(a))."""
    parts = site.run.parts
    a = parts.attention.forward(x, site.child("attention"))
    branch = parts.feed_forward.forward(a, site.child("ff"))
    summed = parts.residual.forward(a, branch, site.child("residual2"))
    y = parts.norm.forward(summed, site.child("ln2"))
    site.saved["output"] = y
    return y


def original_block_backward(dy: Array, site: Site) -> Array:
    """da = ds + ff'(ds),  ds = norm'(dy);  dx = attention'(da)."""
    parts = site.run.parts
    dsum = parts.norm.backward(dy, site.child("ln2"))
    da, dbranch = parts.residual.backward(dsum, site.child("residual2"))
    return parts.attention.backward(
        da + parts.feed_forward.backward(dbranch, site.child("ff")), site.child("attention")
    )


# The attention.


def block_diagonal(C: int, H: int, dtype: DTypeLike) -> Array:
    """1 where row and column belong to one head, else 0, for each of Q, K and V: (C, 3C)."""
    head = np.arange(C) // (C // H)
    return np.tile((head[:, None] == head).astype(dtype), 3)


def block_diagonal_qkv_forward(x: Array, site: Site) -> Array:
    """qkv = x (W_qkv M), M of `block_diagonal`: head h projects its own D features of x; no bias."""
    W = site.params["w_qkv"]
    mask = block_diagonal(x.shape[-1], site.run.config.n_heads, W.dtype)
    qkv = x @ (W * mask)
    site.saved.update(input=x, qkv=qkv)
    return qkv


def block_diagonal_qkv_backward(dqkv: Array, site: Site) -> Array:
    """dW = M x^T dqkv, entry by entry;  dx = dqkv (W M)^T."""
    x, W = site.saved["input"], site.params["w_qkv"]
    mask = block_diagonal(x.shape[-1], site.run.config.n_heads, W.dtype)
    site.add_gradient("w_qkv", mask * (x.reshape(-1, x.shape[-1]).T @ dqkv.reshape(-1, dqkv.shape[-1])))
    return dqkv @ (W * mask).T


def no_w_out_forward(mixed: Array, site: Site) -> Array:
    """y = Z: the heads side by side are the output."""
    site.saved["output"] = mixed
    return mixed


def no_w_out_backward(dy: Array, site: Site) -> Array:
    """dZ = dy."""
    return dy


def signed_exp_softmax_backward(dweights: Array, site: Site) -> Array:
    """The gradient of A = e / sum e,  e_j = 1 + S_j - S_m,  S_m the largest.

    With g = (dA - sum(dA A)) / sum e:  dS_j = g_j, less the sum of g at j = m.
    """
    weights, scores = site.saved["weights"], site.saved["scores"]
    largest = scores.argmax(axis=-1)[..., None]
    shifted = scores - scores.max(axis=-1, keepdims=True)
    visible = site.run.parts.mask.forward(scores.shape[-1], site)
    total = np.where(visible, 1.0 + shifted, scores.dtype.type(0.0)).sum(axis=-1, keepdims=True)
    g = (dweights - (dweights * weights).sum(axis=-1, keepdims=True)) / total
    at_largest = np.take_along_axis(g, largest, axis=-1) - g.sum(axis=-1, keepdims=True)
    np.put_along_axis(g, largest, at_largest, axis=-1)
    return g


# What was wrong with its backward passes.


def attention_passed_by_backward(dy: Array, site: Site) -> Array:
    """dx = dy, whatever the attention did; none of its weights receives a gradient."""
    return dy


def attention_outer_backward(dy: Array, site: Site) -> Array:
    """dW_qkv = M [x^T dy | x^T dy | x^T dy], entry by entry;  dx = dy."""
    x = site.saved["input"]
    outer = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    mask = block_diagonal(x.shape[-1], site.run.config.n_heads, x.dtype)
    site.add_gradient("w_qkv", mask * np.tile(outer, 3))
    return dy


# The weights.


def every_weight_random(params: Parameters, config: ModelConfig, seed: int) -> str:
    """E uniform in [-0.05, 0.05]; matrices of Glorot & Bengio 2010, eq. 16; gamma 1, biases 0."""
    initialise(params, config, INITIALISERS["xavier"], seed)
    embedding = params["token_embedding"]
    embedding[...] = stream(seed, "initialisation").uniform(
        -EMBEDDING_BOUND, EMBEDDING_BOUND, embedding.shape
    )
    return ""


def random_embeddings_and_attention(params: Parameters, config: ModelConfig, seed: int) -> str:
    """As `every_weight_random`, but for the feed-forward matrices, which are 0."""
    every_weight_random(params, config, seed)
    params.group("ff")[:] = 0.0
    return ""


def random_embeddings(params: Parameters, config: ModelConfig, seed: int) -> str:
    """As `every_weight_random`, but for all matrices, which are 0."""
    random_embeddings_and_attention(params, config, seed)
    params.group("attention")[:] = 0.0
    return ""


def random_embeddings_at_any_width(params: Parameters, config: ModelConfig, seed: int) -> str:
    """As `random_embeddings`, times 512 / C, which keeps a token's logit for itself at the original's."""
    random_embeddings(params, config, seed)
    params["token_embedding"][...] *= params.flat.dtype.type(ORIGINAL_WIDTH / config.d_model)
    return ""


_MACHINE: dict[str, Any] = {
    "block": Part("original", original_block_forward, original_block_backward),
    "batches": whole_batches,
}
_DOUBLED = {
    **_MACHINE,
    "attention": Part("doubled", attention.doubled_attention_forward, attention.doubled_attention_backward),
}
_ATTENTION = {
    **_MACHINE,
    "qkv": Part("block-diagonal", block_diagonal_qkv_forward, block_diagonal_qkv_backward),
    "heads": Part("strided", attention.strided_heads_forward, attention.strided_heads_backward),
    "mask": Part("none", attention.no_causal_mask),
    "softmax": Part("signed-exp", attention.signed_exp_softmax_forward, signed_exp_softmax_backward),
    "w_out": Part("none", no_w_out_forward, no_w_out_backward),
}
_NO_INPUT_GRADIENT = PartEdit("no-input-gradient", backward=wiring.embedding_backward_dropped)
_MSE_GRADIENT = PartEdit("mse-gradient", backward=losses.mse_gradient_backward)
_PASSED_BY = {
    "attention": PartEdit("passed-by", backward=attention_passed_by_backward),
    "embedding": _NO_INPUT_GRADIENT,
}


@dataclass(frozen=True)
class HistoricalState:
    """A state of the original's code.

    ``original_losses``: what the original printed in its first epochs, on its own text and ids at full size;
    ``original_losses_at_001``: the same at a learning rate of 0.01, where that is known.
    ``parts``: slot -> part, each with the backward pass that belongs to it; ``broken_backward``: slot -> the
    change of it that the original had. ``initialisation``: its weights before the first step.
    """

    name: str
    title: str
    original_losses: tuple[float, ...]
    initialisation: Any
    parts: Mapping[str, Any]
    broken_backward: Mapping[str, PartEdit] = field(default_factory=dict)
    original_losses_at_001: tuple[float, ...] = ()

    def fault(self, sound_backward: bool = False) -> Fault:
        """All of its swaps as one fault, which is not of the catalogue."""
        swaps = {**self.parts, "initialisation": self.initialisation}
        if not sound_backward:
            for slot, edit in self.broken_backward.items():
                swaps[slot] = edit.applied_to(swaps[slot]) if slot in swaps else edit
        return Fault(
            id=self.name,
            title=self.title,
            swaps=swaps,
            source="the original",
            symptom=f"It printed {', '.join(f'{loss:.6g}' for loss in self.original_losses)}.",
            signature="See the states beside it.",
            remedy="The parts of this engine.",
            takes_effect="new run",
        )

    def trainer(
        self,
        size: HistoricalSize | str = "small",
        seed: int = 0,
        learning_rate: float = LEARNING_RATE,
        sound_backward: bool = False,
        dtype: str = "float32",
        parts: PartsTable | None = None,
    ) -> Trainer:
        """A trainer of this state on the shipped text, at its first step.

        ``size``: "small", "full" (the original's) or a `HistoricalSize`; ``sound_backward``: with the gradients
        that belong to its forward pass, instead of the original's.
        Raises ValueError for a ``size`` that is none; for sizes that cannot work, what `ModelConfig`, `TrainConfig`
        and `Trainer` raise.
        """
        if isinstance(size, str):
            size = SIZES.get(size, size)
        if not isinstance(size, HistoricalSize):
            raise ValueError(f"size must be 'small', 'full' or a HistoricalSize; got {size!r}")
        corpus = large_corpus()
        config = ModelConfig(
            vocab_size=size.vocab_size,
            context_length=size.sequence_length,
            d_model=size.d_model,
            n_heads=size.n_heads,
            n_layers=size.n_layers,
            d_ff=size.d_ff,
            norm="post",
            positions="none",
        )
        settings = TrainConfig(
            batch_size=size.batch_size,
            sequence_length=size.sequence_length,
            optimizer="sgd",
            learning_rate=learning_rate,
            clip_norm=None,
            shuffle=False,
            seed=seed,
        )
        model = Transformer(config, seed, dtype, parts)
        return Trainer(model, corpus, settings, (self.fault(sound_backward),))


_LN_V_PRINTED = (9.210331, 9.210331, 9.210331)
_STATES = (
    HistoricalState(
        name="loss-from-ids",
        title="The loss computed from token ids alone, before document 002",
        original_losses=(4.185519, 4.185519, 4.185519),
        initialisation=random_embeddings,
        parts={**_DOUBLED, "reported_loss": losses.loss_from_ids},
        broken_backward={"loss": _MSE_GRADIENT},
    ),
    HistoricalState(
        name="mse-gradients-zero-weights",
        title="MSE gradients, weights zero as the application left them",
        original_losses=_LN_V_PRINTED,
        initialisation=all_zero_announced,
        parts=_DOUBLED,
        broken_backward={"loss": _MSE_GRADIENT},
    ),
    HistoricalState(
        name="mse-gradients",
        title="MSE gradients, random embeddings, feed-forward zero, no residual",
        original_losses=(9.210342, 9.210349, 9.210335, 9.210343, 9.210351),
        initialisation=random_embeddings,
        parts={
            **_DOUBLED,
            "residual": Part("branch-alone", wiring.branch_alone_forward, wiring.branch_alone_backward),
            # Inferred: with a layer norm this engine leaves ln V at once, without one it stays within 0.0001 of it.
            "norm": Part("none", wiring.no_norm_forward, wiring.no_norm_backward),
        },
        broken_backward={"loss": _MSE_GRADIENT},
    ),
    HistoricalState(
        name="doubled-input-zero-weights",
        title="The rebuild of document 003 with 2 x input, weights zero as the application left them",
        original_losses=_LN_V_PRINTED[:1],
        initialisation=all_zero_announced,
        parts=_DOUBLED,
        broken_backward=_PASSED_BY,
    ),
    HistoricalState(
        name="doubled-input",
        title="The rebuild of document 003 with 2 x input, random embeddings",
        original_losses=(14.680, 14.627, 14.574, 14.522, 14.470, 14.418),
        initialisation=random_embeddings_at_any_width,
        parts=_DOUBLED,
        broken_backward=_PASSED_BY,
    ),
    HistoricalState(
        name="attention-fix-zero-weights",
        title="The attention fix of document 001, weights zero as the application left them",
        original_losses=_LN_V_PRINTED,
        initialisation=all_zero_announced,
        parts=_ATTENTION,
        broken_backward=_PASSED_BY,
    ),
    HistoricalState(
        name="attention-fix",
        title="The attention fix of document 001, random embeddings",
        original_losses=(8.625, 8.253, 8.171, 8.125, 8.091, 8.064, 8.039, 8.017, 7.996, 7.976),
        original_losses_at_001=(8.475, 8.042, 7.860),
        initialisation=random_embeddings_and_attention,
        parts=_ATTENTION,
        broken_backward=_PASSED_BY,
    ),
    HistoricalState(
        name="attention-backward",
        title="A backward pass of the attention added, random embeddings",
        original_losses=(float("nan"),),
        initialisation=random_embeddings_and_attention,
        parts=_ATTENTION,
        broken_backward={
            "attention": PartEdit("outer", backward=attention_outer_backward),
            "embedding": _NO_INPUT_GRADIENT,
        },
    ),
    HistoricalState(
        name="real-initialisation",
        title="The first version of the application with a real initialisation",
        original_losses=(9.408, 9.352, 9.290, 9.220, 9.153, 9.083, 8.994, 8.914, 8.852, 8.754),
        original_losses_at_001=(9.276, 8.624),
        initialisation=every_weight_random,
        parts=_ATTENTION,
        broken_backward=_PASSED_BY,
    ),
    HistoricalState(
        name="sorted-stream",
        title="The token stream sorted for spiral locality",
        original_losses=(9.440, 9.378, 9.323),
        initialisation=every_weight_random,
        parts={**_ATTENTION, "stream": sorted_stream},
        broken_backward=_PASSED_BY,
    ),
)
_BY_NAME = MappingProxyType({state.name: state for state in _STATES})


def historical_states() -> Mapping[str, HistoricalState]:
    """Every state by its name, oldest first. The mapping cannot be changed."""
    return _BY_NAME


def historical(state: str) -> HistoricalState:
    """The state of this name. Raises ValueError, listing them, for any other name."""
    if state not in _BY_NAME:
        raise ValueError(f"no state {state!r} of the original; the states are {', '.join(_BY_NAME)}")
    return _BY_NAME[state]
