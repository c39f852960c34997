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
_ATTENTION = {"attention_bias": "lattice-distance", "head_symmetry": "cyclic", "keys": "rotated"}
_WHOLE: dict[str, Any] = {
    "model": {**_ATTENTION, "embedding_init": "lattice"},
    "train": {"geometric_penalty": PENALTY},
}
_DRAWN = ("lattice_seed",)

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
CONTROLS = (
    Arm(
        "shared keys",
        {"keys": "shared"},
        control_of=("turned keys", "historical keys", "rotated keys"),
        words="keys = queries",
    ),
    Arm(
        "rotated keys, shuffled primes",
        {"keys": "rotated", **_SHUFFLED_PRIMES},
        control_of="rotated keys",
        seeded=_DRAWN,
        words="rotated by another token's prime",
    ),
    Arm(
        "cyclic symmetry, shuffled primes",
        {"head_symmetry": "cyclic", **_SHUFFLED_PRIMES},
        control_of="cyclic symmetry",
        seeded=_DRAWN,
        words="by the class of another token's prime",
    ),
    Arm(
        "sinusoidal positions",
        {"positions": "sinusoidal"},
        control_of="lattice positions",
        words="fixed positions without lattice",
    ),
    Arm(
        "lattice distance, shuffled places",
        {"attention_bias": "lattice-distance", **_SHUFFLED_PLACES},
        control_of="lattice distance",
        seeded=_DRAWN,
        words="the same distances between other tokens",
    ),
    Arm(
        "lattice distance, random places",
        {"attention_bias": "lattice-distance", "token_places": "random"},
        control_of="lattice distance",
        seeded=_DRAWN,
        words="each axis dealt out by itself",
    ),
    Arm(
        "prime distance, shuffled primes",
        {"attention_bias": "prime-distance", **_SHUFFLED_PRIMES},
        control_of="prime distance",
        seeded=_DRAWN,
        words="distances of other tokens' primes",
    ),
    Arm(
        "phase, shuffled primes",
        {"attention_bias": "phase", **_SHUFFLED_PRIMES},
        control_of="phase",
        seeded=_DRAWN,
        words="phases of other tokens' primes",
    ),
    Arm(
        "resonance, shuffled",
        {"attention_bias": "resonance", **_SHUFFLED_PRIMES, **_SHUFFLED_PLACES},
        control_of="resonance",
        seeded=_DRAWN,
        words="resonance of other tokens",
    ),
    Arm(
        "lattice embedding, shuffled primes",
        {"embedding_init": "lattice", **_SHUFFLED_PRIMES},
        control_of="lattice embedding",
        seeded=_DRAWN,
        words="rows with other tokens' primes",
    ),
    Arm(
        "lattice embedding, shuffled places",
        {"embedding_init": "lattice", **_SHUFFLED_PLACES},
        control_of="lattice embedding",
        seeded=_DRAWN,
        words="rows with other tokens' places",
    ),
    Arm(
        "similarity, shuffled primes",
        {"attention_bias": "similarity", **_SHUFFLED_PRIMES},
        control_of="similarity",
        seeded=_DRAWN,
        words="a token is like itself, whatever its prime",
    ),
    Arm(
        "turned keys, shuffled primes",
        {"keys": "turned", **_SHUFFLED_PRIMES},
        control_of="turned keys",
        seeded=_DRAWN,
        words="turned by another token's prime",
    ),
    Arm(
        "lattice attention, shuffled",
        {**_ATTENTION, **_SHUFFLED_PRIMES, **_SHUFFLED_PLACES},
        control_of="lattice attention",
        seeded=_DRAWN,
        words="with other tokens' primes and places",
    ),
    Arm(
        "geometric penalty, random places",
        {"token_places": "random"},
        {"geometric_penalty": PENALTY},
        control_of="geometric penalty",
        seeded=_DRAWN,
        words="distances of rows follow places drawn at random",
    ),
    Arm(
        "whole lattice, shuffled",
        {**_WHOLE["model"], **_SHUFFLED_PRIMES, **_SHUFFLED_PLACES},
        _WHOLE["train"],
        control_of="whole lattice",
        seeded=_DRAWN,
        words="everything, with other tokens' primes and places",
    ),
)
ARMS = (*BIASES, *KEYS_AND_SYMMETRY, *POSITIONS_AND_EMBEDDINGS, *PENALTIES, *COMBINATIONS, *CONTROLS)
