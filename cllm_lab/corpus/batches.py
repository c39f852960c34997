"""An epoch as a list of batches: one pass over all windows, nothing dropped, padded or truncated."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cllm_lab.corpus.arguments import TokenArray, token_array, whole_number
from cllm_lab.streams import stream

_FEWEST_TOKENS = 2


class Batch(NamedTuple):
    """Inputs and targets, both int32 (B, T); targets are the tokens that follow the inputs."""

    inputs: TokenArray
    targets: TokenArray


def batches_per_epoch(n_tokens: int, batch_size: int, sequence_length: int) -> int:
    """Number of batches in one epoch: ceil(full windows / batch_size), and one more for a short last window.

    Raises TypeError or ValueError for n_tokens < 2, batch_size < 1 or sequence_length < 1.
    """
    n_pairs = whole_number("n_tokens", n_tokens, _FEWEST_TOKENS) - 1
    batch_size = whole_number("batch_size", batch_size, 1)
    n_windows, n_left = divmod(n_pairs, whole_number("sequence_length", sequence_length, 1))
    return math.ceil(n_windows / batch_size) + (n_left > 0)


def epoch_batches(
    tokens: ArrayLike, batch_size: int, sequence_length: int, shuffle: bool, seed: int, epoch: int
) -> list[Batch]:
    """Every pair (tokens[i], tokens[i + 1]) of one epoch, exactly once.

    tokens: integers of shape (n,), n >= 2. The n - 1 pairs are cut into windows of `sequence_length`.
    Full windows are grouped `batch_size` at a time, so the last group may be smaller; a short last window
    is a batch of its own. With `shuffle` the order of the full windows and the place of the short one come
    from stream(seed, "order", epoch); without it all stand in the order of the text, the short one last.
    A short window has fewer pairs than its batch's place suggests: weigh batches by their number of targets.

    The arrays are the caller's: they share no memory with `tokens`. Raises TypeError or ValueError naming
    the argument for fewer than 2 tokens, batch_size < 1, sequence_length < 1, or a seed or epoch below 0.
    """
    text = token_array("tokens", tokens, _FEWEST_TOKENS)
    batch_size = whole_number("batch_size", batch_size, 1)
    length = whole_number("sequence_length", sequence_length, 1)
    if not isinstance(shuffle, (bool, np.bool_)):
        raise TypeError(f"shuffle must be True or False, got {shuffle!r}")
    generator = stream(seed, "order", whole_number("epoch", epoch, 0))

    n_windows, n_left = divmod(len(text) - 1, length)
    end = n_windows * length
    inputs = text[:end].reshape(n_windows, length)
    targets = text[1 : end + 1].reshape(n_windows, length)
    order = generator.permutation(n_windows) if shuffle else np.arange(n_windows)
    groups = (order[start : start + batch_size] for start in range(0, n_windows, batch_size))
    batches = [Batch(inputs[group], targets[group]) for group in groups]
    if n_left:
        place = int(generator.integers(len(batches) + 1)) if shuffle else len(batches)
        batches.insert(place, Batch(text[end:-1][np.newaxis].copy(), text[end + 1 :][np.newaxis].copy()))
    return batches
