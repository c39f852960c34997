"""Where a part works, and what it leaves there: sites, their buffers, and activations by name.

A *site* is one place of the machine ("embedding", "layers.0.ln1", "layers.0.attention", ...). A part is
handed its site and finds there its parameters, the sink for their gradients, and a dictionary in which it
saves what its backward pass needs. Everything saved can be asked for by name afterwards:
``acts["layers.0.attention"]`` is the output saved at that site, ``acts["layers.0.attention.weights"]``
the array saved there under "weights".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Array, Parameters

if TYPE_CHECKING:
    from cllm_lab.model.parts.table import ModelParts

OUTPUT = "output"

# (a, b, out): out = a b.
Product = Callable[[Array, Array, Array], object]


class GradientSink:
    """Receives the gradients of one backward pass. Parts add; nothing is ever overwritten.

    The buffer need not be zero at the start: the first contribution to a tensor is written, later ones are
    added, and `finish` zeroes the tensors that received none. This saves a pass over all gradients a step.
    """

    def __init__(self, grads: Parameters) -> None:
        self.grads = grads
        self._touched: set[str] = set()

    def begin(self) -> None:
        """Forgets the last pass."""
        self._touched.clear()

    def add(self, name: str, value: Array) -> None:
        """d<name> += value; the shapes must be equal."""
        target = self.grads[name]
        if value.shape != target.shape:
            raise ValueError(f"the gradient of {name} must have shape {target.shape}; got {value.shape}")
        if name in self._touched:
            target += value
        else:
            target[...] = value
            self._touched.add(name)

    def add_product(self, name: str, a: Array, b: Array, product: Product = np.matmul) -> None:
        """d<name> += a @ b, written straight into the buffer by ``product`` when it is the first contribution."""
        if name in self._touched:
            self.grads[name][...] += a @ b
        else:
            product(a, b, self.grads[name])
            self._touched.add(name)

    def accumulator(self, name: str) -> Array:
        """The gradient's own array, zero if nothing was added yet, for a part that adds in place."""
        target = self.grads[name]
        if name not in self._touched:
            target[...] = 0.0
            self._touched.add(name)
        return target

    def finish(self) -> Parameters:
        """All gradients of the pass; tensors that nothing was added to are exactly 0."""
        for name, view in self.grads.items():
            if name not in self._touched:
                view[...] = 0.0
        return self.grads


class Run:
    """What all sites of one pass share: the configuration, the parts, the batch, the dropout stream.

    ``dropout_rng`` is None outside training. ``of_batch`` holds what follows from the tokens alone and all layers
    share; it is forgotten with the batch.
    """

    def __init__(self, config: ModelConfig, parts: ModelParts, dtype: np.dtype) -> None:
        self.config = config
        self.parts = parts
        self.dtype = dtype
        self.tokens: Array = np.empty((0, 0), np.int32)
        self.targets: Array = np.empty((0, 0), np.int32)
        self.dropout_rng: np.random.Generator | None = None
        self.of_batch: dict[str, Array] = {}
        self.root: Site


class Site:
    """One place of the machine.

    ``params``: short name -> array, the tensors of the nearest enclosing scope that has any.
    ``saved``: short name -> array, what the part here left for its backward pass and for the reader.
    ``run``: what all sites share; ``sink``: where gradients go (`add_gradient` and its kin take short names).
    """

    __slots__ = (
        "__weakref__",
        "_all_params",
        "_scratch",
        "children",
        "name",
        "params",
        "run",
        "saved",
        "scope",
        "sink",
    )

    def __init__(
        self, name: str, scope: str, params: Parameters, run: Run, sink: GradientSink | None
    ) -> None:
        self.name = name
        self.scope = scope
        self.params = params.scope(scope) or {}
        self.run = run
        self.sink = sink
        self.saved: dict[str, Array] = {}
        self.children: dict[str, Site] = {}
        self._scratch: dict[str, Array] = {}
        self._all_params = params

    def child(self, name: str, scope: str | None = None) -> Site:
        """The site below this one; ``scope`` where its tensors have another name than the site."""
        found = self.children.get(name)
        if found is None:
            full = f"{self.name}.{name}" if self.name else name
            wanted = full if scope is None else scope
            own = wanted if self._all_params.scope(wanted) is not None else self.scope
            found = self.children[name] = Site(full, own, self._all_params, self.run, self.sink)
        return found

    def buffer(self, name: str, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        """An array to write a result into, saved under ``name``; kept from pass to pass, contents undefined."""
        return self._kept(self.saved, name, shape, dtype)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Array:
        """As `buffer`, for a result that nobody asks for by name."""
        return self._kept(self._scratch, name, shape, dtype)

    def _kept(
        self, store: dict[str, Array], name: str, shape: tuple[int, ...], dtype: DTypeLike | None
    ) -> Array:
        array = store.get(name)
        if array is None or array.shape != shape:
            array = store[name] = np.empty(shape, self.run.dtype if dtype is None else dtype)
        return array

    def full(self, short: str) -> str:
        """The full name of a tensor of this site's scope."""
        return f"{self.scope}.{short}" if self.scope else short

    def add_gradient(self, short: str, value: Array) -> None:
        """`GradientSink.add` for a tensor of this site."""
        self._sink().add(self.full(short), value)

    def add_gradient_product(self, short: str, a: Array, b: Array, product: Product = np.matmul) -> None:
        """`GradientSink.add_product` for a tensor of this site."""
        self._sink().add_product(self.full(short), a, b, product)

    def gradient_accumulator(self, short: str) -> Array:
        """`GradientSink.accumulator` for a tensor of this site."""
        return self._sink().accumulator(self.full(short))

    def _sink(self) -> GradientSink:
        if self.sink is None:
            raise RuntimeError("this pass was made for a forward pass alone and has nowhere to put gradients")
        return self.sink


class Activations(Mapping[str, Array]):
    """Every intermediate of one forward pass by name, in the order of computation.

    ``acts.logits`` (B, T, V) and ``acts.final_hidden`` (B, T, C) have short cuts; ``acts.names()`` lists the
    rest. The arrays belong to the caller.
    """

    def __init__(self, root: Site) -> None:
        self._root = root
        self._index: dict[str, Array] = dict(_walk(root))

    @property
    def logits(self) -> Array:
        """Scores before the softmax, (B, T, V)."""
        return self._index["logits"]

    @property
    def final_hidden(self) -> Array:
        """What the output matrix is multiplied with, (B, T, C)."""
        return self._index["final_hidden"]

    def names(self) -> list[str]:
        """All names, in the order of computation."""
        return list(self._index)

    def __getitem__(self, name: str) -> Array:
        try:
            return self._index[name]
        except KeyError:
            raise KeyError(f"no activation {name!r}; the names are {', '.join(self._index)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"Activations({len(self)} arrays, logits {self.logits.shape})"


def _walk(site: Site) -> Iterator[tuple[str, Array]]:
    """Everything saved at and below a site: children first, since a site's own output comes last."""
    for child in site.children.values():
        yield from _walk(child)
    for key, array in site.saved.items():
        if key != OUTPUT:
            yield (f"{site.name}.{key}" if site.name else key), array
    if OUTPUT in site.saved:
        yield site.name, site.saved[OUTPUT]
