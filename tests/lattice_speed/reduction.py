"""What LLL does for a product, x W against (x U^-1) (U W), and what an honest reduction of the dimension does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.lattice import (
    LowRankFactors,
    ProductCost,
    ReducedBlock,
    lattice_embedding,
    nth_token_primes,
    rank_for_energy,
    reduce_block,
    truncated_svd,
)
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer
from tests.lattice_speed.rounds import interleaved, speed_up, spread

# Shares of the squares that are kept, and factors of the multiply-adds that are saved.
ENERGIES = (0.99, 0.9)
SAVINGS = (2.0, 4.0)
LATTICE = "lattice"
FIRST_ROW = 5  # behind the specials
# Rows of x: the tokens of the documents' batch.
ROWS = 128
BATCH_SIZE, SEQUENCE_LENGTH = 4, 32
BITS = 8
WHOLE = "whole"

Floats = NDArray[np.float32]


def machines(steps: int) -> dict[str, Transformer]:
    """A machine with the weights of its start, and after so many steps on the shipped text."""
    corpus = load_corpus("large")
    random = Transformer(ModelConfig(vocab_size=corpus.vocab_size))
    trainer = Trainer(random, corpus, TrainConfig())
    trainer.run(steps=steps, progress=False)
    return {"random": random, "trained": trainer.model}


def blocks(machine: Transformer, sizes: Sequence[int]) -> dict[str, NDArray[Any]]:
    """d x d blocks of a machine's weights: rows of the embedding behind the specials, and the corner of W_Q."""
    found = {}
    for d in sizes:
        found[f"embedding, d = {d}"] = machine.params["token_embedding"][FIRST_ROW : FIRST_ROW + d, :d]
        found[f"queries, d = {d}"] = machine.params["layers.0.w_qkv"][:d, :d]
    return found


def lattice_blocks(sizes: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The same rows of `lattice_embedding` in d dimensions, the tokens having the n-th primes."""
    found = {}
    for d in sizes:
        ids = np.arange(FIRST_ROW, FIRST_ROW + d)
        found[f"embedding, d = {d}"] = lattice_embedding(ids, nth_token_primes(ids), d)
    return found


def rank_for_saving(matrix: NDArray[Any], factor: float) -> int:
    """r = round(m n / (m + n) / factor), at least 1: two factors then cost 1 / factor of the multiply-adds."""
    m, n = matrix.shape
    return max(1, round(m * n / (m + n) / factor))


# How the rank of a matrix's factors is chosen, by name.
RANKS: dict[str, Callable[[NDArray[Any]], int]] = {
    **{f"{energy:.0%} of the energy": partial(rank_for_energy, energy=energy) for energy in ENERGIES},
    **{f"1/{factor:g} of the work": partial(rank_for_saving, factor=factor) for factor in SAVINGS},
}


def of_block(block: NDArray[Any], rounds: int, turn_seconds: float, bits: int = BITS) -> dict[str, Any]:
    """x Q, Q the quantised block, beside x H and (x U^-1) H, H = U Q its LLL-reduced form; float32.

    ``same_answer`` is the product through the reduced block; ``new_basis`` the product that may take x U^-1 for
    granted. ``counted``: the same ratios in multiply-adds, and where zeros are skipped. ``error``: relative, of the
    product through the reduced block, largest entry over largest entry.
    """
    reduced = reduce_block(block, bits)
    x = np.random.default_rng(0).standard_normal((ROWS, len(block)), np.float32)
    Q, H, back = (
        matrix.astype(np.float32) for matrix in (reduced.quantised, reduced.reduced, reduced.inverse)
    )
    inner, y = np.empty_like(x), np.empty_like(x)

    def through_reduced() -> None:
        np.matmul(x, back, out=inner)
        np.matmul(inner, H, out=y)

    calls = {
        WHOLE: partial(np.matmul, x, Q, out=y),
        "same_answer": through_reduced,
        "new_basis": partial(np.matmul, x, H, out=y),
    }
    times = interleaved(calls, rounds, turn_seconds)
    through_reduced()
    exact = x.astype(np.float64) @ reduced.quantised
    return {
        "d": len(block),
        "bits": bits,
        "bits_before": reduced.bits_before,
        "bits_after": reduced.bits_after,
        "seconds": {name: spread(each) for name, each in times.items()},
        "speed_up": {name: speed_up(times, name, WHOLE) for name in times if name != WHOLE},
        "counted": counted(reduced),
        "error": float(np.abs(y - exact).max() / np.abs(exact).max()),
    }


def counted(reduced: ReducedBlock) -> dict[str, dict[str, float]]:
    """Speed-ups in multiply-adds: dense, and with every zero skipped."""

    def both(cost: ProductCost) -> dict[str, float]:
        return {"same_answer": cost.speed_up, "new_basis": cost.speed_up_in_new_basis}

    return {"dense": both(reduced.cost), "without_zeros": both(reduced.cost_without_zeros)}


def of_rank(
    machine: Transformer, rank: Callable[[NDArray[Any]], int], rounds: int, turn_seconds: float
) -> dict[str, Any]:
    """Every matrix of a machine in two factors of the rank that ``rank`` gives, one of `RANKS`.

    ``speed_up``: of all the products x W, float32, made through the factors; ``counted``: the same in
    multiply-adds. ``loss``: mean cross-entropy over the shipped text, in nats, before and after; nothing is trained
    in between.
    """
    matrices = {
        name: as_used(name, view)
        for name, view in machine.params.items()
        if view.ndim == 2 and name != "position_embedding"
    }
    factors = {name: truncated_svd(matrix, rank(matrix)) for name, matrix in matrices.items()}
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((ROWS, len(matrix)), np.float32) for name, matrix in matrices.items()}
    calls = {
        WHOLE: _products(inputs, {name: [matrix] for name, matrix in matrices.items()}),
        "factors": _products(inputs, {name: [each.left, each.right] for name, each in factors.items()}),
    }
    times = interleaved(calls, rounds, turn_seconds)
    before = sum(each.multiply_adds_before for each in factors.values())
    return {
        "ranks": {name: each.rank for name, each in factors.items()},
        "full_ranks": {name: min(matrix.shape) for name, matrix in matrices.items()},
        "speed_up": speed_up(times, "factors", WHOLE),
        "counted": before / sum(each.multiply_adds_after for each in factors.values()),
        "loss": [mean_loss(machine), mean_loss(approximated(machine, factors))],
    }


def as_used(name: str, matrix: NDArray[Any]) -> NDArray[Any]:
    """The matrix by which rows are multiplied: the token embedding's is that of the logits, its transpose."""
    return matrix.T if name == "token_embedding" else matrix


def approximated(machine: Transformer, factors: Mapping[str, LowRankFactors]) -> Transformer:
    """A copy of the machine whose matrices are the products of their factors."""
    twin = machine.copy()
    for name, each in factors.items():
        twin.params[name][:] = as_used(name, each.left @ each.right)
    return twin


def mean_loss(machine: Transformer) -> float:
    """Over every pair of the shipped text, in nats."""
    corpus = load_corpus("large")
    batches = epoch_batches(corpus.tokens, BATCH_SIZE, SEQUENCE_LENGTH, False, 0, 0)
    total = sum(machine.loss(*batch) * batch.targets.size for batch in batches)
    return float(total / (corpus.n_tokens - 1))


def _products(
    inputs: Mapping[str, Floats], matrices: Mapping[str, Sequence[NDArray[Any]]]
) -> Callable[[], None]:
    """A call that multiplies each input by its matrices, one after the other, into arrays that are there."""
    made: list[tuple[Floats, Floats, Floats]] = []
    for name, chain in matrices.items():
        x = inputs[name]
        for matrix in chain:
            out = np.empty((ROWS, matrix.shape[1]), np.float32)
            made.append((x, np.ascontiguousarray(matrix, np.float32), out))
            x = out

    def call() -> None:
        for x, matrix, out in made:
            np.matmul(x, matrix, out=out)

    return call
