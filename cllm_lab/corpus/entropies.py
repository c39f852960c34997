"""Plateaus of a token stream: the losses at which a model stops that knows only so much.

All entropies are those of the empirical distribution of the pairs (token, next token), in nats, over the
targets tokens[1:]. Knowing more can only lower them: positional <= bigram <= unigram <= ln V
(Cover and Thomas, Elements of Information Theory, theorem 2.6.5).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cllm_lab.corpus.arguments import token_array, whole_number

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Plateaus:
    """Levels of the loss, in nats, each reached by a perfect user of the named knowledge.

    uniform: ln V, no knowledge. unigram: how often each token occurs. bigram: the present token.
    positional: the present token and its position in fixed windows; None where no window is given.
    """

    uniform: float
    unigram: float
    bigram: float
    positional: float | None = None


def unigram_entropy(targets: ArrayLike) -> float:
    """H1 = -sum_x p(x) ln p(x), with p the relative frequencies of `targets`, shape (n,), n >= 1; in nats.

    Raises ValueError for another shape or no target, TypeError unless the targets are integers.
    """
    following = token_array("targets", targets, minimum_length=1)
    return _conditional_entropy(np.zeros(len(following), dtype=np.int64), following)


def bigram_entropy(tokens: ArrayLike) -> float:
    """H2 = H(next | token) = -sum_xy p(x, y) ln p(y | x) over the pairs of `tokens`, shape (n,), n >= 2.

    In nats. Raises ValueError for another shape or fewer than 2 tokens, TypeError unless they are integers.
    """
    stream = token_array("tokens", tokens, minimum_length=2)
    return _conditional_entropy(stream[:-1], stream[1:])


def positional_entropy(tokens: ArrayLike, sequence_length: int) -> float:
    """H(next | token, position), in nats, over the pairs of `tokens`, shape (n,), n >= 2.

    position: the place of the token in its window, where windows of `sequence_length` pairs follow one
    another without overlap from the start of the stream, the short last one included.

    Raises ValueError for another shape, fewer than 2 tokens or sequence_length < 1, TypeError unless
    tokens and length are integers.
    """
    stream = token_array("tokens", tokens, minimum_length=2)
    length = whole_number("sequence_length", sequence_length, 1)
    pairs = np.arange(len(stream) - 1)
    present, _ = _labels(stream[:-1])
    # A window longer than the stream is the stream: the cap keeps the combined key inside int64.
    length = min(length, len(pairs))
    return _conditional_entropy(present * length + pairs % length, stream[1:])


def _labels(values: NDArray[np.integer]) -> tuple[Labels, int]:
    """Values renumbered 0, 1, ..., so that products of two labels fit into int64; and how many there are."""
    distinct, labels = np.unique(values, return_inverse=True)
    return labels.astype(np.int64, copy=False), len(distinct)


def _conditional_entropy(context: NDArray[np.integer], following: NDArray[np.integer]) -> float:
    """sum over (context, next) of n(c, x)/n ln(n(c)/n(c, x)): a sum without cancellation, never negative."""
    contexts, _ = _labels(context)
    nexts, n_nexts = _labels(following)
    joint, joint_counts = np.unique(contexts * n_nexts + nexts, return_counts=True)
    context_counts = np.bincount(contexts)[joint // n_nexts]
    return float(np.sum(joint_counts * np.log(context_counts / joint_counts)) / len(contexts))
