"""The arms of the lattice report: every algorithm of the lattice by itself, combinations, and controls of each kind.

A control keeps what is incidental to an arm (its parameters, its cost, the sizes of its numbers) and destroys what the
arm is about: primes or places dealt out to other tokens, anew for each pair of runs, or the same part without lattice.
Strengths of biases are learnable and start at 1, but for the one arm whose strength is fixed there.
"""

from __future__ import annotations

from typing import Any

from cllm_lab.trials.arm import Arm

BASELINE = Arm("baseline", words="no lattice: learned positions, projected keys, no bias")

# Against a cross-entropy of 1 to 6 nats and penalties of at most 2: felt, and not the main thing.
PENALTY = 0.1

_SHUFFLED_PRIMES = {"token_primes": "shuffled"}
_SHUFFLED_PLACES = {"token_places": "shuffled"}
_SHUFFLED = {**_SHUFFLED_PRIMES, **_SHUFFLED_PLACES}
_RANDOM_PLACES = {"token_places": "random"}
_ATTENTION = {"attention_bias": "lattice-distance", "head_symmetry": "cyclic", "keys": "rotated"}
_WHOLE: dict[str, Any] = {
    "model": {**_ATTENTION, "embedding_init": "lattice"},
    "train": {"geometric_penalty": PENALTY},
}

BIASES = (
    Arm(
        "lattice distance", {"attention_bias": "lattice-distance"}, words="scores biased by lattice distance"
    ),
    Arm("prime distance", {"attention_bias": "prime-distance"}, words="scores biased by |ln p / q|"),
    Arm("phase", {"attention_bias": "phase"}, words="scores biased by phase alignment"),
    Arm("similarity", {"attention_bias": "similarity"}, words="scores biased by gcd / max of primes"),
    Arm("resonance", {"attention_bias": "resonance"}, words="scores multiplied by the original's resonance"),
    Arm(
        "lattice distance, fixed",
        {"attention_bias": "lattice-distance", "bias_learnable": False},
        words="the same bias, its strength held at 1",
    ),
)
KEYS_AND_SYMMETRY = (
    Arm("turned keys", {"keys": "turned"}, words="keys made from the queries by the original's turn"),
    Arm("historical keys", {"keys": "historical"}, words="the same with the original's two further steps"),
    Arm("rotated keys", {"keys": "rotated"}, words="keys made from the queries by a rotation"),
    Arm("cyclic symmetry", {"head_symmetry": "cyclic"}, words="order 12 on the heads, a group"),
    Arm("historical symmetry", {"head_symmetry": "historical"}, words="the original's twelve operations"),
)
POSITIONS_AND_EMBEDDINGS = (
    Arm("lattice positions", {"positions": "lattice"}, words="positions from the lattice embedding"),
    Arm("lattice embedding", {"embedding_init": "lattice"}, words="embedding begins with the lattice's rows"),
    Arm("spiral embedding", {"embedding_init": "spiral"}, words="embedding begins with the spiral's rows"),
)
PENALTIES = (
    Arm(
        "geometric penalty",
        train={"geometric_penalty": PENALTY},
        words="distances of rows follow the lattice",
    ),
    Arm(
        "symmetry penalty",
        train={"symmetry_penalty": PENALTY},
        words="classes mod 12 as turns of one another",
    ),
    Arm("prime penalty", train={"prime_penalty": PENALTY}, words="cosines of rows follow prime similarity"),
    Arm(
        "gcd penalty",
        train={"gcd_penalty": PENALTY},
        words="the original's loss, in which no parameter occurs",
    ),
)
COMBINATIONS = (
    Arm("lattice attention", _ATTENTION, words="lattice distance, cyclic symmetry and rotated keys together"),
    Arm("whole lattice", **_WHOLE, words="the same, with lattice embedding and geometric penalty"),
)


def _dealt_out(name: str, drawn: dict[str, str], left: str, words: str) -> Arm:
    """The control of an arm that is the arm itself, but for primes or places dealt out anew for each pair of runs."""
    (arm,) = (arm for arm in LATTICE_ARMS if arm.name == name)
    return Arm(
        f"{name}, {left}",
        {**arm.model, **drawn},
        arm.train,
        control_of=name,
        seeded="lattice_seed",
        words=words,
    )


LATTICE_ARMS = (*BIASES, *KEYS_AND_SYMMETRY, *POSITIONS_AND_EMBEDDINGS, *PENALTIES, *COMBINATIONS)
CONTROLS = (
    Arm(
        "shared keys",
        {"keys": "shared"},
        control_of=("turned keys", "historical keys", "rotated keys"),
        words="keys = queries",
    ),
    _dealt_out("rotated keys", _SHUFFLED_PRIMES, "shuffled primes", "rotated by another token's prime"),
    _dealt_out(
        "cyclic symmetry", _SHUFFLED_PRIMES, "shuffled primes", "by the class of another token's prime"
    ),
    Arm(
        "sinusoidal positions",
        {"positions": "sinusoidal"},
        control_of="lattice positions",
        words="fixed positions without lattice",
    ),
    _dealt_out(
        "lattice distance", _SHUFFLED_PLACES, "shuffled places", "the same distances between other tokens"
    ),
    _dealt_out("lattice distance", _RANDOM_PLACES, "random places", "each axis dealt out by itself"),
    _dealt_out("prime distance", _SHUFFLED_PRIMES, "shuffled primes", "distances of other tokens' primes"),
    _dealt_out("phase", _SHUFFLED_PRIMES, "shuffled primes", "phases of other tokens' primes"),
    _dealt_out("resonance", _SHUFFLED, "shuffled", "resonance of other tokens"),
    _dealt_out("lattice embedding", _SHUFFLED_PRIMES, "shuffled primes", "rows with other tokens' primes"),
    _dealt_out("lattice embedding", _SHUFFLED_PLACES, "shuffled places", "rows with other tokens' places"),
    _dealt_out(
        "similarity", _SHUFFLED_PRIMES, "shuffled primes", "a token is like itself, whatever its prime"
    ),
    _dealt_out("turned keys", _SHUFFLED_PRIMES, "shuffled primes", "turned by another token's prime"),
    _dealt_out("lattice attention", _SHUFFLED, "shuffled", "with other tokens' primes and places"),
    _dealt_out(
        "geometric penalty",
        _RANDOM_PLACES,
        "random places",
        "distances of rows follow places drawn at random",
    ),
    _dealt_out("whole lattice", _SHUFFLED, "shuffled", "everything, with other tokens' primes and places"),
)
ARMS = (*LATTICE_ARMS, *CONTROLS)
