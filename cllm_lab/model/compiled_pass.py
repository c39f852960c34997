"""The pass that a healthy machine trains with: the whole step compiled, a batch shared out between threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from cllm_lab.model.activations import Activations
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import pass_kernels as kernels
from cllm_lab.model.parts.jit import quiet
from cllm_lab.model.parts.lattice_parts import lattice_positions
from cllm_lab.model.parts.reference_parts import GELU_CUBIC, GELU_SCALE, mean_of_losses, sinusoid
from cllm_lab.model.parts.threads import (
    available_threads,
    in_pieces,
    largest_matrix,
    one_product_thread,
    run_together,
)
from cllm_lab.model.transformer import Pass, Transformer

# Multiply-adds of a step that are worth a thread; about half a millisecond on one core.
WORTH_A_THREAD = 20_000_000
# Entries of a weight matrix.
LARGE_MATRIX = 400_000
OUTSIDE_LAYERS = (
    "token_embedding", "position_embedding", "output_embedding", "ln_final.gamma", "ln_final.beta"
)  # fmt: skip


def suits(model: Transformer) -> bool:
    """Whether the compiled pass can stand for the parts of a machine, and is faster.

    It is one fixed wiring, pre-norm with attention, of the fast table's own parts, in float32 and without dropout.
    Where a matrix is so large that reading it for each share costs more than sharing saves, the parts do better, with
    a library that gives all its threads to each product.
    """
    config = model.config
    return (
        model.table.name == "fast"
        and not model.swapped_slots()
        and model.dtype == np.float32
        and config.norm == "pre"
        and config.attention == "multi-head"
        and (config.keys, config.head_symmetry, config.attention_bias) == ("projected", "none", "none")
        and config.dropout == 0.0
        and largest_matrix(config) <= LARGE_MATRIX
    )


def warm_up(report: Callable[[str], None]) -> None:
    """Compiles the pass, or loads it from the cache, after naming it to ``report``."""
    report("compiling the whole pass of a healthy machine (float32)")
    model = Transformer(ModelConfig(vocab_size=5, context_length=2, d_model=4, n_heads=1, n_layers=1))
    tokens = np.zeros((1, 2), np.int32)
    compiled = CompiledPass(model, model.params.like(), (1, 2))
    compiled.forward(tokens)
    with quiet():
        compiled.loss(tokens)


class CompiledPass:
    """As `Pass`, for training alone: loss and gradients come from one call, and no activation is kept by name.

    ``grads`` receives the gradients. The batch (B, T) is cut into shares of whole sequences, which are computed side
    by side; the gradient is their sum in a fixed order, so that the number of shares decides its last bits and
    nothing else does. ``n_shares`` is the number of threads, where the work is worth them and nothing else is said.
    """

    def __init__(
        self, model: Transformer, grads: Parameters, shape: tuple[int, int], n_shares: int | None = None
    ) -> None:
        self.model = model
        self._grads = grads
        B, T = shape
        if n_shares is None:
            worth = _multiply_adds(model, B * T) // WORTH_A_THREAD
            n_shares = max(1, min(available_threads(), B, worth))
        bounds = [B * i // n_shares for i in range(n_shares + 1)]
        self._shares = [
            _Share(model, grads if i == 0 else grads.like(), first, last, T)
            for i, (first, last) in enumerate(pairwise(bounds))
        ]
        self._tokens = self._targets = np.empty((0, 0), np.int32)

    def forward(self, tokens: Array, dropout_rng: np.random.Generator | None = None) -> None:
        """Takes the batch; the work is done with the loss."""
        self._tokens = tokens

    def loss(self, targets: Array) -> float:
        """Mean cross-entropy of the batch, in nats."""
        self._targets = targets
        jobs = [partial(share.run, self._tokens, targets) for share in self._shares]
        with one_product_thread():
            return mean_of_losses(np.concatenate(run_together(jobs)))

    def backward(self) -> Parameters:
        """The gradient of the last `loss`."""
        for share in self._shares[1:]:
            in_pieces(partial(_add, self._grads.flat, share.grads.flat), slice(0, self._grads.flat.size))
        return self._grads

    def activations(self) -> Activations:
        """Every intermediate of the last batch by name, from a pass through the parts."""
        full = Pass(self.model)
        full.forward(self._tokens)
        full.loss(self._targets)
        return full.activations()


class _Share:
    """Some sequences of a batch, the gradient of their part of the loss, and the arrays for computing it."""

    def __init__(self, model: Transformer, grads: Parameters, first: int, last: int, T: int) -> None:
        config, dtype = model.config, model.dtype
        self._config = config
        self.grads = grads
        self._rows = slice(first, last)
        self._params = model.params
        B, C, F, V, L, H = (
            last - first,
            config.d_model,
            config.width_ff,
            config.vocab_size,
            config.n_layers,
            config.n_heads,
        )
        R, D = B * T, C // H
        gelu = config.activation == "gelu"
        constants = (GELU_SCALE, GELU_CUBIC) if gelu else (0.0, 0.0)
        self._gelu = tuple(dtype.type(number) for number in constants)
        self._learned = config.positions == "learned"
        slices = model.params.slices
        self._layers = np.array(
            [[slices[f"layers.{i}.{name}"].start for name in kernels.LAYER_TENSORS] for i in range(L)],
            np.int64,
        )
        self._places = np.array([slices[n].start if n in slices else -1 for n in OUTSIDE_LAYERS], np.int64)
        if config.positions == "sinusoidal":
            self._positions = sinusoid(T, C).astype(dtype)
        elif config.positions == "lattice":
            # The kernel is compiled for arrays that may be written.
            self._positions = lattice_positions(T, C, dtype).copy()
        else:
            self._positions = np.zeros((T, C), dtype)
        new = partial(np.empty, dtype=dtype)
        self._tokens, self._targets = np.empty(R, np.int32), np.empty(R, np.int32)
        self._kept = kernels.Kept(
            normed1=new((L, R, C)),
            rstd1=new((L, R)),
            read1=new((L, R, C)),
            q=new((L, B, H, T, D)),
            k=new((L, B, H, T, D)),
            v=new((L, B, H, T, D)),
            weights=new((L, B, H, T, T)),
            mixed=new((L, R, C)),
            normed2=new((L, R, C)),
            rstd2=new((L, R)),
            read2=new((L, R, C)),
            pre=new((L, R, F) if gelu else (L, 0, 0)),
            hidden=new((L, R, F)),
            normed=new((R, C)),
            rstd=new((R,)),
            final_hidden=new((R, C)),
        )
        self._scratch = kernels.Scratch(
            x=new((R, C)),
            branch=new((R, C)),
            dx=new((R, C)),
            dread=new((R, C)),
            qkv=new((R, 3 * C)),
            dhidden=new((R, F)),
            logits=new((R, V)),
            losses=np.empty(R, np.float64),
            square=new((T, T)),
            head=new((T, D)),
            dhead=new((T, D)),
        )

    def run(self, tokens: Array, targets: Array) -> Array:
        """The losses of this share's tokens, in nats; the gradient of their part of the mean into ``grads``."""
        # Copies, since compiled code for a corpus's read-only ids is other code.
        np.copyto(self._tokens, tokens[self._rows].reshape(-1))
        np.copyto(self._targets, targets[self._rows].reshape(-1))
        positions = self._params["position_embedding"] if self._learned else self._positions
        kernels.loss_and_gradients(
            self._params.flat,
            self.grads.flat,
            self._layers,
            self._places,
            self._tokens,
            self._targets,
            positions,
            self._kept,
            self._scratch,
            self._config.norm_epsilon,
            self._gelu,
            self._config.tied,
            self._learned,
            tokens.size,
        )
        return self._scratch.losses


def _add(total: Array, share: Array, piece: slice) -> None:
    total[piece] += share[piece]


def _multiply_adds(model: Transformer, n_tokens: int) -> int:
    """Of the products of a step with the weights, forward and back: three for each weight and token."""
    return 3 * n_tokens * model.params.flat.size
