"""The transformer: parameters, the parts that act on them, and one pass forward and back."""

from __future__ import annotations

import weakref
from copy import copy

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cllm_lab.model.activations import Activations, GradientSink, Run, Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.initialisers import INITIALISERS, initialise
from cllm_lab.model.parameters import Array, Parameters
from cllm_lab.model.parts import by_name
from cllm_lab.model.parts.table import SLOTS, Part, PartEdit, PartsTable
from cllm_lab.streams import check_seed, stream

DTYPES = ("float32", "float64")


class Pass:
    """One forward pass, its loss and its backward pass, over buffers that the next use may write again.

    ``sink`` receives the gradients; without one there is no backward pass. The trainer keeps a `Pass` and
    reuses it; the public methods of `Transformer` make a new one each time, so that what they return belongs
    to the caller.
    """

    def __init__(self, model: Transformer, sink: GradientSink | None = None) -> None:
        self.model = model
        self.run = Run(model.config, model.parts, model.dtype)
        self.root = Site("", "", model.params, self.run, sink)
        # Weak, since the root holds the run: a cycle would keep every buffer until the next garbage collection.
        self.run.root = weakref.proxy(self.root)

    def forward(self, tokens: Array, dropout_rng: np.random.Generator | None = None) -> Array:
        """Logits (B, T, V) for token ids (B, T). With a generator, dropout draws its masks from it."""
        self.run.tokens = _writable(tokens)
        self.run.dropout_rng = dropout_rng
        self.run.of_batch.clear()
        return self.run.parts.transformer.forward(self.run.tokens, self.root)

    def loss(self, targets: Array) -> float:
        """Mean cross-entropy of the last forward pass, in nats (or what the loss part makes of it)."""
        self.run.targets = _writable(targets)
        logits = self.root.child("logits").saved["output"]
        return self.run.parts.loss.forward(logits, self.root.child("loss"))

    def backward(self) -> Parameters:
        """Gradients of the last `loss` with respect to every parameter. RuntimeError without a sink."""
        sink = self.root.sink
        if sink is None:
            raise RuntimeError("this pass was made without a sink for gradients")
        sink.begin()
        dlogits, dfinal_hidden = self.run.parts.loss.backward(self.root.child("loss"))
        self.run.parts.transformer.backward(dlogits, dfinal_hidden, self.root)
        return sink.finish()

    def activations(self) -> Activations:
        """Every array that the pass has saved, by name."""
        return Activations(self.root)


class Transformer:
    """A decoder-only transformer whose parts can be swapped.

    ``seed`` fixes the initial weights; ``dtype`` is "float32" or "float64"; ``parts`` is a table:
    `cllm_lab.parts.fast`, the default, or `cllm_lab.parts.reference`.

    ``model.params`` is a Mapping of live views into one flat buffer. They may be written to; nothing else of a
    model changes once it is made.
    Raises TypeError for a ``config`` or ``parts`` that is none, ValueError for an unknown dtype or seed.
    """

    def __init__(
        self,
        config: ModelConfig,
        seed: int = 0,
        dtype: DTypeLike = "float32",
        parts: PartsTable | None = None,
    ) -> None:
        if not isinstance(config, ModelConfig):
            raise TypeError(f"config must be a ModelConfig; got {type(config).__name__}")
        self.config = config
        self.seed = seed
        self.dtype = _require_dtype(dtype)
        if parts is not None and not isinstance(parts, PartsTable):
            raise TypeError(f"parts must be a table, parts.fast or parts.reference; got {parts!r}")
        self.table = by_name("fast") if parts is None else parts
        self.parts = self.table.choose(config)
        self.params = Parameters.zeros(config, self.dtype)
        initialise(self.params, config, INITIALISERS[config.init], seed)

    def forward(self, tokens: ArrayLike, dropout_seed: int | None = None) -> Activations:
        """All activations for token ids (B, T), T at most context_length; ``.logits`` is (B, T, V).

        Dropout is off where ``dropout_seed`` is None; the same seed draws the same masks again.
        Raises ValueError or TypeError for tokens of another shape, kind or range.
        """
        forward_pass = Pass(self)
        forward_pass.forward(self.require_tokens("tokens", tokens), _dropout_rng(dropout_seed))
        return forward_pass.activations()

    def loss(self, tokens: ArrayLike, targets: ArrayLike, dropout_seed: int | None = None) -> float:
        """Mean cross-entropy over all positions, in nats."""
        tokens, targets = self.require_batch(tokens, targets)
        forward_pass = Pass(self)
        forward_pass.forward(tokens, _dropout_rng(dropout_seed))
        return forward_pass.loss(targets)

    def gradients(
        self, tokens: ArrayLike, targets: ArrayLike, dropout_seed: int | None = None
    ) -> tuple[float, Parameters]:
        """The loss in nats, and its gradient with respect to every parameter, in a buffer of its own."""
        tokens, targets = self.require_batch(tokens, targets)
        full_pass = Pass(self, GradientSink(self.params.like()))
        full_pass.forward(tokens, _dropout_rng(dropout_seed))
        loss = full_pass.loss(targets)
        return loss, full_pass.backward()

    def copy(self) -> Transformer:
        """The same machine with parameters of its own."""
        return self.astype(self.dtype)

    def astype(self, dtype: DTypeLike) -> Transformer:
        """The same machine, parameters rounded or widened to another dtype."""
        twin = copy(self)
        twin.dtype = _require_dtype(dtype)
        twin.params = self.params.like(self.params.flat.astype(twin.dtype))
        return twin

    def swapped(self, **swaps: Part | PartEdit) -> Transformer:
        """A copy with other parts in the named slots. Raises ValueError naming a slot that does not exist."""
        twin = self.copy()
        twin.parts = self.parts.replace(**swaps)
        return twin

    def swapped_slots(self) -> tuple[str, ...]:
        """The slots whose part is not the one that the table offers for this configuration."""
        healthy = self.table.choose(self.config)
        return tuple(slot for slot in SLOTS if getattr(self.parts, slot) != getattr(healthy, slot))

    def require_batch(self, tokens: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
        """Tokens and targets as int32 arrays of one shape (B, T); ValueError or TypeError otherwise."""
        inputs = self.require_tokens("tokens", tokens)
        wanted = self.require_tokens("targets", targets)
        if inputs.shape != wanted.shape:
            raise ValueError(
                f"targets must have the shape of tokens, {inputs.shape}; got {wanted.shape}. "
                "Targets are the tokens shifted by one, not one-hot rows"
            )
        return inputs, wanted

    def require_tokens(self, name: str, tokens: ArrayLike) -> Array:
        """Token ids as an int32 array (B, T) within vocabulary and context; ValueError or TypeError otherwise."""
        try:
            array = np.asarray(tokens)
        except ValueError as ragged:
            raise ValueError(f"{name} must be rows of equal length: {ragged}") from ragged
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold whole numbers (token ids); got dtype {array.dtype}")
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(
                f"{name} must have shape (batch, positions), neither empty; got shape {array.shape}"
            )
        if array.shape[1] > self.config.context_length:
            raise ValueError(
                f"{name} has {array.shape[1]} positions, more than context_length={self.config.context_length}; "
                "use shorter windows or a model with a longer context"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"{name} must lie in 0 to {self.config.vocab_size - 1} (vocab_size={self.config.vocab_size}); "
                f"got ids from {low} to {high}"
            )
        return np.ascontiguousarray(array, np.int32)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"Transformer({self.params.flat.size:,} parameters, V={c.vocab_size}, d_model={c.d_model}, "
            f"n_layers={c.n_layers}, n_heads={c.n_heads}, {self.dtype}, {self.table.name} parts)"
        )


def _require_dtype(dtype: DTypeLike) -> np.dtype:
    wrong = f"dtype must be one of {', '.join(map(repr, DTYPES))}; got {dtype!r}"
    try:
        found = np.dtype(dtype)
    except TypeError as unknown:
        raise ValueError(wrong) from unknown
    # NumPy reads None as float64; nobody who wrote None asked for that.
    if dtype is None or found.name not in DTYPES:
        raise ValueError(wrong)
    return np.dtype(found.name)


def _writable(ids: Array) -> Array:
    """The same ids; a corpus's read-only ones copied, for which every kernel would be compiled once more."""
    return ids if ids.flags.writeable else ids.copy()


def _dropout_rng(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else stream(check_seed(seed, "dropout_seed"), "dropout")
