"""The products of a step by this library's own kernels: what its compiled pass takes at least.

They are made in the arrays of a compiled pass and cut for threads as it cuts them: forward and back by sequences, the
gradients of the weights by rows. These lines follow the pass's own and reach into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import numpy as np
from numba import njit

from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import pass_kernels
from cllm_lab.model.parts.products import multiply, multiply_by_transpose, multiply_transpose_by
from cllm_lab.model.parts.threads import run_together
from tests.bench.machines import Machine

Calls = list[Callable[[], None]]


class OurProducts:
    """Every product of a training step by the compiled kernels. ``grads`` and ``kept`` hold what they give."""

    def __init__(self, machine: Machine, threads: int) -> None:
        model, B = machine.model(), machine.batch_size
        self.grads = model.params.like()
        # Kept, since the place to pack operands into is there only as long as the pass.
        self._pass = CompiledPass(model, self.grads, (B, machine.sequence_length))
        self.kept = self._pass._kept
        rng = np.random.default_rng(0)
        for array in vars(self.kept).values():
            array[:] = rng.standard_normal(array.shape, dtype=np.float32)
        handles = [each.handle for each in self._pass._products]
        n_shares = min(len(handles), B)
        self._forward: list[Calls] = []
        self._back: list[Calls] = []
        for number, (first, last) in enumerate(pairwise(B * i // n_shares for i in range(n_shares + 1))):
            forward, back = self._share(machine, model.params, slice(first, last), handles[number])
            self._forward.append(forward)
            self._back.append(back)
        self._weight_gradients = [
            [call for call in calls if getattr(call, "func", None) is pass_kernels.weight_gradient]
            for calls in self._pass._weight_gradients
        ]

    def step(self) -> float:
        """All products once; there is no loss."""
        for threads in (self._forward, self._back, self._weight_gradients):
            run_together([partial(_run_all, calls) for calls in threads])
        return float("nan")

    def _share(
        self, machine: Machine, params: Parameters, sequences: slice, products: Array
    ) -> tuple[Calls, Calls]:
        """The calls for some sequences, on one thread: forward, and back."""
        new, kept = partial(np.empty, dtype=np.float32), self.kept
        T, C = machine.sequence_length, machine.d_model
        rows = slice(sequences.start * T, sequences.stop * T)
        r = rows.stop - rows.start
        branch, wide = new((r, C)), new((r, kept.hidden.shape[-1]))
        scores, dq = new((T, T)), new((T, C // machine.n_heads))
        last, output = 2 * machine.n_layers, params["token_embedding"]
        forward: Calls = []
        back: Calls = [partial(output_back, kept.logits[rows], output, branch, products)]
        for i in range(machine.n_layers):
            at, before, after = f"layers.{i}.", 2 * i, 2 * i + 1
            w_qkv, w_out, w_ff1, w_ff2 = (params[at + name] for name in ("w_qkv", "w_out", "w_ff1", "w_ff2"))
            qkv, weights, dx = kept.qkv[i, rows], kept.weights[i, sequences], kept.normed[after, rows]
            forward.append(
                partial(
                    layer_forward,
                    kept.read[before, rows], w_qkv, qkv, weights, kept.mixed[i, rows], w_out,
                    kept.read[after, rows], w_ff1, kept.hidden[i, rows], w_ff2, branch, scores, products,
                )
            )  # fmt: skip
            back.insert(
                1,
                partial(
                    layer_back,
                    dx, w_qkv, qkv, weights, w_out, w_ff1, kept.slope[i, rows], w_ff2,
                    branch, wide, scores, dq, products,
                ),
            )  # fmt: skip
        forward.append(partial(output_forward, kept.read[last, rows], output, kept.logits[rows], products))
        return forward, back


@njit(nogil=True)
def layer_forward(
    read, w_qkv, qkv, weights, mixed, w_out, read_again, w_ff1, hidden, w_ff2, branch, scores, products
):
    """Queries, keys and values, scores, mixed values, what goes back to the residual; then the feed-forward's two."""
    multiply(read, w_qkv, qkv, products)
    B, H, T, _ = weights.shape
    D = read.shape[1] // H
    for b in range(B):
        for h in range(H):
            q, k, v = head(qkv, b, T, h, H, D)
            multiply_by_transpose(q, k, scores, products)
            multiply(weights[b, h], v, mixed[b * T : (b + 1) * T, h * D : (h + 1) * D], products)
    multiply(mixed, w_out, branch, products)
    multiply(read_again, w_ff1, hidden, products)
    multiply(hidden, w_ff2, branch, products)


@njit(nogil=True)
def layer_back(dx, w_qkv, qkv, weights, w_out, w_ff1, slope, w_ff2, branch, wide, scores, dq, products):
    """The gradients of what each of these was given, the last first; dV, dA, dQ and dK for each head."""
    multiply_by_transpose(dx, w_ff2, wide, products)
    multiply_by_transpose(slope, w_ff1, branch, products)
    multiply_by_transpose(dx, w_out, branch, products)
    B, H, T, _ = weights.shape
    D = dx.shape[1] // H
    for b in range(B):
        for h in range(H):
            q, k, v = head(qkv, b, T, h, H, D)
            dz = branch[b * T : (b + 1) * T, h * D : (h + 1) * D]
            multiply_by_transpose(dz, v, scores, products)
            multiply_transpose_by(weights[b, h], dz, v, products)
            multiply(scores, k, dq, products)
            multiply_transpose_by(scores, q, k, products)
    multiply_by_transpose(qkv, w_qkv, branch, products)


@njit(nogil=True)
def output_forward(read, output, logits, products):
    """The logits."""
    multiply_by_transpose(read, output, logits, products)


@njit(nogil=True)
def output_back(logits, output, branch, products):
    """The gradient of what they were made of."""
    multiply(logits, output, branch, products)


@njit(inline="always")
def head(qkv, b, T, h, H, D):
    """Queries, keys and values of a sequence's head, where they lie."""
    rows, start, C = qkv[b * T : (b + 1) * T], h * D, H * D
    return (
        rows[:, start : start + D],
        rows[:, C + start : C + start + D],
        rows[:, 2 * C + start : 2 * C + start + D],
    )


def _run_all(calls: Iterable[Callable[[], None]]) -> None:
    for call in calls:
        call()
