"""The least loss that the positions a machine can look at allow, on a language of copied blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm_lab.corpus.languages import InductionLanguage


def reachable_floor(matrix: Any, language: InductionLanguage) -> float:
    """Least mean loss in nats a target of whoever sees, at position i, the tokens j with matrix[i, j] > 0 alone.

        floor = n_unknown ln(n_symbols) / T

    ``matrix`` (T, T) of numbers of at least 0, such as `dependency_matrix` gives; the windows follow one another
    from the start of the stream, T a multiple of 2 block_length. The target of position i is the token at offset
    i + 1. Each draw of a block stands at two offsets, in the block and in its copy. A target is known where i sees
    either of them; otherwise it is uniform whatever else is seen, since draws are independent.

    With everything earlier in sight it is `InductionLanguage.floor`; with nothing but one's own token ln n_symbols.
    Raises TypeError for another language, ValueError for another matrix and for windows that cut blocks.
    """
    if not isinstance(language, InductionLanguage):
        raise TypeError(f"language must be an InductionLanguage; got {type(language).__name__}")
    reach = np.asarray(matrix)
    if reach.ndim != 2 or reach.shape[0] != reach.shape[1] or not reach.size:
        raise ValueError(f"matrix must have shape (T, T), T at least 1; got {reach.shape}")
    if reach.dtype.kind not in "biuf" or not np.all(reach >= 0):
        raise ValueError("matrix must hold numbers of at least 0, or truth values")
    T, block = len(reach), language.block_length
    language.floor(T)  # refuses windows that cut a block from its copy
    offset = np.arange(T + 1)
    draw = offset // (2 * block) * block + offset % block
    known = np.any((reach > 0) & (draw[None, :T] == draw[1:, None]), axis=1)
    return float(np.count_nonzero(~known) / T * np.log(language.n_symbols))
