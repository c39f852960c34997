"""The similarity of primes against the product q · k that it would replace, and how much of a step that product is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cllm_lab.clinic.part_times import PartTime, part_times
from cllm_lab.lattice import SIMILARITIES, nth_token_primes
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from tests.lattice_speed import kernels
from tests.lattice_speed.rounds import amdahl, interleaved, speed_up, spread

VOCABULARY = 10_000
# What a pair costs: as products, and as similarities.
PRODUCTS = ("dot products, terms in order", "dot products", "matrix product")
LOOPS = {"gcd, compiled": kernels.gcd_over_max, "primes known, compiled": kernels.gcd_over_max_of_primes}
# The same loops, run for one head of each sequence, whose result serves the others.
LOOPS_ONCE = {
    "gcd, once for all heads": kernels.gcd_over_max,
    "primes known, once for all heads": kernels.gcd_over_max_of_primes,
}
FACTORS = (10.0, 100.0, math.inf)


@dataclass(frozen=True)
class Pairs:
    """B sequences of T tokens, H heads, whose vectors have d dimensions: T x T pairs in each head of each sequence."""

    batch: int
    heads: int
    length: int
    d: int


@dataclass(frozen=True)
class Machine:
    """A machine and its batches."""

    name: str
    config: ModelConfig
    batch_size: int
    sequence_length: int


def of_pairs(size: Pairs, rounds: int, turn_seconds: float) -> dict[str, Any]:
    """Seconds a pair of each product and each similarity, and how many times as fast each similarity is as each.

    float32. Q K^T is (B, H, T, T), another in every head. The similarity depends on the tokens alone and is the same in
    all heads. It is timed both as the product is, for each head, and once for all heads, (B, T, T), as a machine could
    do whose heads all attend alike. A pair is one of the B H T² of the product in both cases.
    """
    calls = contenders(size)
    times = interleaved(calls, rounds, turn_seconds)
    count = size.batch * size.heads * size.length**2
    similarities = [name for name in calls if name not in PRODUCTS]
    return {
        "batch": size.batch,
        "heads": size.heads,
        "length": size.length,
        "d": size.d,
        "seconds_a_pair": {name: spread([t / count for t in times[name]]) for name in times},
        "speed_up": {
            name: {product: speed_up(times, name, product) for product in PRODUCTS} for name in similarities
        },
    }


def contenders(size: Pairs) -> dict[str, Callable[[], object]]:
    """What is timed, by name: the products of `PRODUCTS`, the similarities as compiled loops and as the library's.

    Sequences and heads share one axis, sequence by sequence; `LOOPS_ONCE` have the sequences alone.
    """
    rng = np.random.default_rng(0)
    both = size.batch * size.heads
    q, k = rng.standard_normal((2, both, size.length, size.d), np.float32)
    # int32, which the processor divides faster than int64.
    once = nth_token_primes(rng.integers(VOCABULARY, size=(size.batch, size.length))).astype(np.int32)
    primes = np.repeat(once, size.heads, axis=0)
    scores, similarity = np.empty((2, both, size.length, size.length), np.float32)
    shared = np.empty((size.batch, size.length, size.length), np.float32)
    queries, keys = primes[:, :, None], primes[:, None, :]
    return {
        PRODUCTS[0]: partial(kernels.dots_in_order, q, k, scores),
        PRODUCTS[1]: partial(kernels.dots, q, k, scores),
        PRODUCTS[2]: partial(np.matmul, q, k.swapaxes(-1, -2), out=scores),
        **{name: partial(loop, primes, similarity) for name, loop in LOOPS.items()},
        **{name: partial(loop, once, shared) for name, loop in LOOPS_ONCE.items()},
        **{f"{name}, NumPy": partial(function, queries, keys) for name, function in SIMILARITIES.items()},
    }


def of_step(machine: Machine, repetitions: int) -> dict[str, Any]:
    """What share of a pass forward and back the product is, and what a faster one could do for the whole at most.

    ``scores``: Q K^T with its two gradients. ``with_projections``: that, and the queries and keys themselves, two
    thirds of the product that makes queries, keys and values, which a similarity of primes would not need either. The
    optimizer, which comes after the pass, makes both shares of a training step smaller than these. ``pass_seconds`` are
    of the wall clock, as `part_times` takes them, and grow with the load; the shares, ratios of them, get noisier.
    """
    model = Transformer(machine.config)
    text = np.random.default_rng(0).integers(
        machine.config.vocab_size, size=(machine.batch_size, machine.sequence_length + 1)
    )
    rows = part_times(model, text[:, :-1], text[:, 1:], repetitions)
    found = shares(rows)
    return {
        "machine": machine.name,
        "batch_size": machine.batch_size,
        "sequence_length": machine.sequence_length,
        "d_model": machine.config.d_model,
        "pass_seconds": sum(row.seconds for row in rows),
        "share": found,
        "speed_up_at_most": {
            name: {f"{factor:g}": amdahl(share, factor) for factor in FACTORS}
            for name, share in found.items()
        },
    }


def shares(rows: tuple[PartTime, ...]) -> dict[str, float]:
    """Of the seconds in all parts, those of ``scores``, and of these ``with_projections``."""
    seconds = {slot: sum(row.seconds for row in rows if row.slot == slot) for slot in ("scores", "qkv")}
    total = sum(row.seconds for row in rows)
    return {
        "scores": seconds["scores"] / total,
        "with_projections": (seconds["scores"] + seconds["qkv"] * 2.0 / 3.0) / total,
    }
