"""The console lines of the documents, in their formats, and what each tensor does in a step.

The formats are part of the case: ``%.6f`` prints a magnitude of 1e-7 as 0.000000. The counts here differ from
the original's in one point: a NaN is counted as what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cllm_lab.model.activations import Activations
from cllm_lab.model.parameters import Array, Parameters

SAMPLE_SIZE = 100

_BLOCK = 1024
# Above this a sum of float32 squares has lost nothing that matters to squares too small for float32.
_SAFE_SQUARE = 1e-24
# A pre-norm block, from its output back to its input.
_BACKWARD_IN_LAYER = ("w_ff2", "b_ff2", "w_ff1", "b_ff1", "ln2", "w_out", "b_out", "w_qkv", "b_qkv", "ln1")


class NonFiniteError(ArithmeticError):
    """A loss or gradient that is not finite: ``step`` of the attempt, ``tensor`` the first bad one by name.

    The parameters are those before the step.
    """

    def __init__(self, step: int, tensor: str, kind: str, value: str) -> None:
        self.step = step
        self.tensor = tensor
        super().__init__(
            f"step {step}: the first {kind} that is not finite is {tensor} ({value}). The parameters are those "
            "before this step. Lower learning_rate, set clip_norm, or look at that tensor with "
            "trainer.forward(tokens)"
        )


@dataclass(frozen=True)
class TensorRow:
    """What one tensor does in one step. Norms are Euclidean.

    ``trainable``: whether the optimizer updates it; ``gradient`` and ``update`` their norms, ``weight`` its own
    before the step; ``gradient_zeros`` the share of gradient entries that are exactly 0.
    """

    name: str
    group: str
    shape: tuple[int, ...]
    trainable: bool
    weight: float
    gradient: float
    gradient_zeros: float
    update: float


def weight_magnitudes(params: Parameters) -> str:
    """``Weight magnitudes: embed=0.012345, attn=0.008765, ff=0.015432``: means of |w| (document 001)."""
    embed, attention, ff = (mean_magnitude(params.group(name)) for name in ("embedding", "attention", "ff"))
    return f"Weight magnitudes: embed={embed:.6f}, attn={attention:.6f}, ff={ff:.6f}"


def gradient_statistics(grads: Parameters) -> str:
    """``Gradients: embed=5234 (max=1.23e-02, avg=3.45e-04), attn=2048 (max=8.76e-03)`` (document 001).

    The counts are of entries that are not 0; the average is over all entries. Entries that are not finite are
    named after the line where there are any.
    """
    embed, attention = np.abs(grads.group("embedding")), np.abs(grads.group("attention"))
    line = (
        f"Gradients: embed={np.count_nonzero(embed)} (max={_maximum(embed):.2e}, avg={embed.mean():.2e}), "
        f"attn={np.count_nonzero(attention)} (max={_maximum(attention):.2e})"
    )
    bad = grads.flat.size - int(np.isfinite(grads.flat).sum())
    return f"{line}, not finite={bad}" if bad else line


def max_gradient_magnitude(grads: Parameters) -> str:
    """``Max gradient magnitude: 0.012345`` over the embedding's gradient (document 000, priority 2)."""
    return f"Max gradient magnitude: {_maximum(np.abs(grads.group('embedding'))):.6f}"


def sample_embedding_magnitude(params: Parameters) -> str:
    """``Sample embedding magnitude: 0.012345``: mean |w| of the first 100 numbers (document 000, priority 3)."""
    return (
        f"Sample embedding magnitude: {mean_magnitude(params['token_embedding'].ravel()[:SAMPLE_SIZE]):.6f}"
    )


def mean_magnitude(values: Array) -> float:
    """Mean of |values|, 0 where there are none."""
    return float(np.abs(values).mean()) if values.size else 0.0


def _maximum(magnitudes: Array) -> float:
    return float(magnitudes.max()) if magnitudes.size else 0.0


def sum_of_squares(values: Array) -> float:
    """Of (n,), in the values' own dtype over blocks of 1024 and in float64 over the blocks."""
    # Not with np.dot: by blocks it is more accurate, and no threads wait for each other on a busy machine.
    blocks = values[: values.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    rest = values[blocks.size :]
    return float(np.einsum("ij,ij->i", blocks, blocks).sum(dtype=np.float64) + np.einsum("i,i->", rest, rest))


@np.errstate(over="ignore")
def norm(values: Array, squares: Callable[[Array], float] = sum_of_squares) -> float:
    """Euclidean norm of (n,); also right where the squares overflow, or vanish, in the values' own dtype.

    ``squares`` is what takes the sum of the squares, `sum_of_squares` or its compiled twin.
    """
    square = squares(values)
    if _SAFE_SQUARE < square < np.inf:
        return math.sqrt(square)
    largest = _maximum(np.abs(values))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    scaled = values.astype(np.float64) / largest
    return largest * math.sqrt(sum_of_squares(scaled))


def first_non_finite_value(activations: Activations, loss: float) -> tuple[str, str, str]:
    """(name, kind, value) of the first array of a forward pass that is not finite; of the loss if all are."""
    for name, array in activations.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name, "activation", _describe(array)
    return "loss", "value", str(loss)


def first_non_finite_gradient(grads: Parameters) -> tuple[str, str, str]:
    """(name, kind, value) of the first gradient that is not finite, from the output back to the embedding.

    Raises ValueError where all are finite.
    """
    for name in sorted(grads, key=_place_in_backward):
        if not np.isfinite(grads[name]).all():
            return name, "gradient", _describe(grads[name])
    raise ValueError("every gradient is finite")


def _place_in_backward(name: str) -> tuple[int, int, int]:
    if name.startswith("layers."):
        _, layer, tensor = name.split(".", 2)
        return 1, -int(layer), _BACKWARD_IN_LAYER.index(tensor.split(".")[0])
    return (2 if name in ("token_embedding", "position_embedding") else 0), 0, 0


def _describe(array: Array) -> str:
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return f"{nan} NaN and {infinite} infinite of {array.size}"
