"""Named random streams: one independent generator per seed, purpose and indices.

Each kind of draw has a stream of its own, so that a change to one part moves no other part's draws.
"""

import operator

import numpy as np

# A purpose is known to the generator by its place in this tuple: append, never reorder.
PURPOSES = ("initialisation", "order", "dropout", "sampling", "language", "check", "lattice")

# SeedSequence joins its numbers as 32-bit words without marking where one ends. Within these bounds
# a seed fills at most its own four words and an index exactly one, so no two keys can coincide.
_SEED_BOUND = 2**128
_INDEX_BOUND = 2**32


def check_seed(seed: int, name: str = "seed") -> int:
    """`seed` as a plain int. Raises TypeError unless it is an integer, ValueError outside [0, 2**128)."""
    return _bounded_int(name, seed, _SEED_BOUND, "2**128")


def stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """The random stream of one purpose.

    seed: non-negative integer below 2**128. purpose: one of `PURPOSES`. indices: non-negative integers
    below 2**32 that tell apart the streams of one purpose, such as an epoch. Equal arguments give
    equal bits; any difference gives an independent stream.

    Raises TypeError for a seed or an index that is no integer, ValueError for one out of range or
    for a purpose that does not exist.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}; got {purpose!r}")
    key = [
        _bounded_int(f"index {place}", index, _INDEX_BOUND, "2**32") for place, index in enumerate(indices)
    ]
    sequence = np.random.SeedSequence(check_seed(seed), spawn_key=(PURPOSES.index(purpose), *key))
    return np.random.Generator(np.random.PCG64(sequence))


def _bounded_int(name: str, value: int, bound: int, bound_text: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a non-negative integer, got {value!r} ({type(value).__name__})")
    number = operator.index(value)
    if not 0 <= number < bound:
        raise ValueError(f"{name} must be a non-negative integer below {bound_text}, got {number}")
    return number
