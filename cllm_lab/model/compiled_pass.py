"""The pass that a healthy machine trains with: the whole step compiled, a batch shared out between threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import numpy as np

from cllm_lab.model.activations import Activations
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import pass_kernels as kernels
from cllm_lab.model.parts.jit import quiet
from cllm_lab.model.parts.kernels import gather_rows, scatter_add_rows
from cllm_lab.model.parts.lattice_parts import lattice_positions
from cllm_lab.model.parts.products import Products
from cllm_lab.model.parts.reference_parts import GELU_CUBIC, GELU_SCALE, mean_of_losses, sinusoid
from cllm_lab.model.parts.threads import available_threads, run_together
from cllm_lab.model.parts.vector_tiles import ROWS
from cllm_lab.model.transformer import Pass, Transformer

# Multiply-adds of a step that are worth a thread; about half a millisecond on one core.
WORTH_A_THREAD = 20_000_000
LAYER_TENSORS = (
    "ln1.gamma", "ln1.beta", "w_qkv", "b_qkv", "w_out", "b_out",
    "ln2.gamma", "ln2.beta", "w_ff1", "b_ff1", "w_ff2", "b_ff2",
)  # fmt: skip


def suits(model: Transformer) -> bool:
    """Whether the compiled pass can stand for the parts of a machine, and is faster.

    It is one fixed wiring, pre-norm with attention, of the fast table's own parts, in float32 and without dropout.
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
    )


def warm_up(report: Callable[[str], None]) -> None:
    """Compiles the pass, or loads it from the cache, after naming it to ``report``."""
    report("compiling the whole pass of a healthy machine (float32)")
    model = Transformer(ModelConfig(vocab_size=5, context_length=2, d_model=4, n_heads=1, n_layers=1))
    tokens = np.zeros((1, 2), np.int32)
    with quiet():
        compiled = CompiledPass(model, model.params.like(), (1, 2))
        compiled.forward(tokens)
        compiled.loss(tokens)
        compiled.backward()


class CompiledPass:
    """As `Pass`, for training alone: loss and gradients come from two calls, and no activation is kept by name.

    ``grads`` receives the gradients. Threads share out the sequences of the batch (B, T), and then the rows of the
    weights; no number of the result depends on how. ``n_threads`` is what the work is worth, where nothing else is
    said.
    """

    def __init__(
        self, model: Transformer, grads: Parameters, shape: tuple[int, int], n_threads: int | None = None
    ) -> None:
        self.model = model
        self._grads = grads
        B, T = self._shape = shape
        if n_threads is None:
            n_threads = max(1, min(available_threads(), _multiply_adds(model, B * T) // WORTH_A_THREAD))
        self._tokens, self._targets = np.empty(B * T, np.int32), np.empty(B * T, np.int32)
        self._kept = _Kept(model, B, T)
        self._products = [Products(model.dtype) for _ in range(n_threads)]
        handles = [each.handle for each in self._products]
        n_shares = min(n_threads, B)
        bounds = [B * i // n_shares for i in range(n_shares + 1)]
        self._shares = [
            _Share(model, self._kept, self._tokens, self._targets, slice(first, last), handle)
            for (first, last), handle in zip(pairwise(bounds), handles, strict=False)
        ]
        self._weight_gradients = _weight_gradients(model.config, grads, self._kept, handles)
        self._may_go_back = False
        names = [f"layers.{i}.ln{n}" for i in range(model.config.n_layers) for n in (1, 2)] + ["ln_final"]
        self._norms = [(grads[f"{name}.gamma"], grads[f"{name}.beta"]) for name in names]

    def forward(self, tokens: Array, dropout_rng: np.random.Generator | None = None) -> None:
        """Takes the batch; the work is done with the loss."""
        self._may_go_back = False
        # A copy, since compiled code for a corpus's read-only ids is other code.
        np.copyto(self._tokens, tokens.reshape(-1))

    def loss(self, targets: Array) -> float:
        """Mean cross-entropy of the batch, in nats."""
        self._may_go_back = False
        np.copyto(self._targets, targets.reshape(-1))
        run_together([share.forward for share in self._shares])
        self._may_go_back = True
        return mean_of_losses(self._kept.losses)

    def backward(self) -> Parameters:
        """The gradient of the last `loss`. Raises RuntimeError without one: the way back uses up what it left."""
        if not self._may_go_back:
            raise RuntimeError("backward() takes back what loss() left, once; call loss() before")
        self._may_go_back = False
        run_together([share.back for share in self._shares])
        run_together([partial(_run_all, calls) for calls in self._weight_gradients])
        self._gradients_of_norms()
        self._gradients_of_embeddings()
        return self._grads

    def _gradients_of_norms(self) -> None:
        for number, (dgamma, dbeta) in enumerate(self._norms):
            np.add.reduce(self._kept.dgamma[number], axis=0, out=dgamma)
            np.add.reduce(self._kept.dbeta[number], axis=0, out=dbeta)

    def _gradients_of_embeddings(self) -> None:
        config = self.model.config
        dx = self._kept.normed[0]
        d_embedding = self._grads["token_embedding"]
        if not config.tied:
            d_embedding[:] = 0.0
        scatter_add_rows(d_embedding, self._tokens, dx)
        if config.positions == "learned":
            T = self._shape[1]
            d_positions = self._grads["position_embedding"]
            np.add.reduce(dx.reshape(*self._shape, -1), axis=0, out=d_positions[:T])
            d_positions[T:] = 0.0

    def activations(self) -> Activations:
        """Every intermediate of the last batch by name, from a pass through the parts."""
        full = Pass(self.model)
        full.forward(self._tokens.reshape(self._shape))
        full.loss(self._targets.reshape(self._shape))
        return full.activations()


class _Kept:
    """What the way forward leaves for the way back, and that for the gradients of the weights, as `pass_kernels` says.

    Norm 2 i stands before the attention of layer i, norm 2 i + 1 before its feed-forward, norm 2 L before the output.
    """

    def __init__(self, model: Transformer, B: int, T: int) -> None:
        config, new = model.config, partial(np.empty, dtype=model.dtype)
        C, F, L, R = config.d_model, config.width_ff, config.n_layers, B * T
        norms = 2 * L + 1
        self.normed: Array = new((norms, R, C))
        self.rstd: Array = new((norms, R))
        self.read: Array = new((norms, R, C))
        self.dgamma: Array = new((norms, B, C))
        self.dbeta: Array = new((norms, B, C))
        self.qkv: Array = new((L, R, 3 * C))
        self.weights: Array = new((L, B, config.n_heads, T, T))
        self.mixed: Array = new((L, R, C))
        self.hidden: Array = new((L, R, F))
        self.slope: Array = new((L, R, F))
        self.logits: Array = new((R, config.vocab_size))
        self.losses: Array = np.empty(R, np.float64)

    def of_norm(self, number: int, rows: slice) -> tuple[Array, Array, Array]:
        return self.normed[number, rows], self.rstd[number, rows], self.read[number, rows]


class _Share:
    """Some sequences of a batch on their way forward and back, on one thread: calls of `pass_kernels`, in order."""

    def __init__(
        self,
        model: Transformer,
        kept: _Kept,
        tokens: Array,
        targets: Array,
        sequences: slice,
        products: Array,
    ) -> None:
        config, params, new = model.config, model.params, partial(np.empty, dtype=model.dtype)
        T = tokens.size // kept.dgamma.shape[1]
        rows = slice(sequences.start * T, sequences.stop * T)
        r, C = rows.stop - rows.start, config.d_model
        x, branch, wide = new((r, C)), new((r, C)), new((r, config.width_ff))
        scores, dq = new((T, T)), new((T, C // config.n_heads))
        epsilon = config.norm_epsilon
        gelu = (GELU_SCALE, GELU_CUBIC) if config.activation == "gelu" else (0.0, 0.0)
        constants = tuple(model.dtype.type(constant) for constant in gelu)

        def norm_back(number: int, name: str) -> Callable[[], object]:
            normed, rstd, _ = kept.of_norm(number, rows)
            dgamma, dbeta = kept.dgamma[number, sequences], kept.dbeta[number, sequences]
            return partial(kernels.norm_back, branch, params[f"{name}.gamma"], normed, rstd, x, dgamma, dbeta)

        self._forward: list[Callable[[], object]] = [
            partial(gather_rows, params["token_embedding"], tokens[rows], x),
            partial(np.add, x.reshape(-1, T, C), _positions(model, T), out=x.reshape(-1, T, C)),
        ]
        # Last first: what the way back ends with stands at the beginning.
        self._back: list[Callable[[], object]] = []
        for i in range(config.n_layers):
            at, before, after = f"layers.{i}", 2 * i, 2 * i + 1
            gamma1, beta1, w_qkv, b_qkv, w_out, b_out, gamma2, beta2, w_ff1, b_ff1, w_ff2, b_ff2 = (
                params[f"{at}.{name}"] for name in LAYER_TENSORS
            )
            qkv, weights, slope = kept.qkv[i, rows], kept.weights[i, sequences], kept.slope[i, rows]
            self._forward += [
                partial(
                    kernels.attention_forward,
                    x, gamma1, beta1, w_qkv, b_qkv, w_out, b_out, epsilon, *kept.of_norm(before, rows),
                    qkv, weights, kept.mixed[i, rows], branch, scores, products,
                ),
                partial(
                    kernels.feed_forward,
                    x, gamma2, beta2, w_ff1, b_ff1, w_ff2, b_ff2, epsilon, constants, *kept.of_norm(after, rows),
                    kept.hidden[i, rows], slope, branch, products,
                ),
            ]  # fmt: skip
            self._back += [
                norm_back(before, f"{at}.ln1"),
                partial(kernels.attention_back, x, w_qkv, w_out, qkv, weights, branch, scores, dq, products),
                norm_back(after, f"{at}.ln2"),
                partial(kernels.feed_forward_back, x, w_ff1, w_ff2, slope, branch, wide, products),
            ]
        last, output, logits = 2 * config.n_layers, _output(params), kept.logits[rows]
        gamma, beta, lanes = params["ln_final.gamma"], params["ln_final.beta"], new((kernels.LANES,))
        self._forward.append(
            partial(
                kernels.output_forward,
                x, gamma, beta, output, targets[rows], targets.size, epsilon,
                *kept.of_norm(last, rows), logits, kept.losses[rows], lanes, products,
            )
        )  # fmt: skip
        self._back += [
            norm_back(last, "ln_final"),
            partial(kernels.output_back, logits, output, branch, products),
            partial(x.fill, 0.0),
        ]

    def forward(self) -> None:
        """The losses of these sequences."""
        _run_all(self._forward)

    def back(self) -> None:
        """From them the gradient of what each product gave, and those of norms."""
        _run_all(reversed(self._back))


def _output(tensors: Parameters) -> Array:
    """The matrix that makes the logits, or its gradient: (V, C)."""
    return tensors["output_embedding" if "output_embedding" in tensors else "token_embedding"]


def _positions(model: Transformer, T: int) -> Array:
    """What is added to the embeddings of a sequence: (T, C)."""
    config = model.config
    if config.positions == "learned":
        return model.params["position_embedding"][:T]
    if config.positions == "sinusoidal":
        return sinusoid(T, config.d_model).astype(model.dtype)
    if config.positions == "lattice":
        return lattice_positions(T, config.d_model, model.dtype)
    return np.zeros((T, config.d_model), model.dtype)


def _weight_gradients(
    config: ModelConfig, grads: Parameters, kept: _Kept, products: list[Array]
) -> list[list[Callable[[], object]]]:
    """For each thread, the calls that make the gradients of its rows of the weights, and of biases.

    Every thread gets the same number of multiply-adds, in whole tiles of the products.
    """
    tasks: list[tuple[Array, Array, Array, Array | None]] = [
        (kept.logits, kept.read[-1], _output(grads), None)
    ]
    for i in range(config.n_layers):
        at, before, after = f"layers.{i}.", 2 * i, 2 * i + 1
        tasks += [
            (kept.read[before], kept.qkv[i], grads[at + "w_qkv"], grads[at + "b_qkv"]),
            (kept.mixed[i], kept.normed[after], grads[at + "w_out"], grads[at + "b_out"]),
            (kept.read[after], kept.slope[i], grads[at + "w_ff1"], grads[at + "b_ff1"]),
            (kept.hidden[i], kept.normed[after + 1], grads[at + "w_ff2"], grads[at + "b_ff2"]),
        ]
    share = sum(dw.size for _, _, dw, _ in tasks) / len(products)
    calls: list[list[Callable[[], object]]] = [[] for _ in products]
    done = 0
    for x, dy, dw, db in tasks:
        rows, columns = dw.shape
        ends = [(share * (n + 1) - done) / columns for n in range(len(products) - 1)]
        bounds = [0, *(min(max(round(end / ROWS) * ROWS, 0), rows) for end in ends), rows]
        for n, (first, last) in enumerate(pairwise(bounds)):
            if first < last:
                part = x[:, first:last], dy, dw[first:last], products[n]
                calls[n].append(partial(kernels.weight_gradient, *part))
                if first == 0 and db is not None:
                    calls[n].append(partial(np.add.reduce, dy, axis=0, out=db))
        done += dw.size
    return calls


def _run_all(calls: Iterable[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _multiply_adds(model: Transformer, n_tokens: int) -> int:
    """Of the products of a step with the weights, forward and back: three for each weight and token."""
    return 3 * n_tokens * model.params.flat.size
