"""The lattice's part in attention and positions, written from the formulas, one pair of tokens at a time.

Nothing of cllm_lab is used but the two controls' random permutations, which are data and not mathematics.
"""

from __future__ import annotations

import math
from functools import cache

import autograd.numpy as np

from cllm_lab.lattice.token_features import token_places_of, token_primes_of

GOLDEN = 2.0 * math.pi / ((1.0 + math.sqrt(5.0)) / 2.0) ** 2


@cache
def primes(count):
    """The first primes, by trial division."""
    found = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def token_prime(config, token):
    """The prime of a token: the n-th, the next one from n floor(ln(n + 1) + 1), or that of a cache of 1,000."""
    if config.token_primes == "shuffled":
        return int(token_primes_of(config.vocab_size, "shuffled", config.lattice_seed)[token])
    if config.token_primes == "growth":
        number = max(2, token * math.floor(math.log(token + 1) + 1))
        while any(number % divisor == 0 for divisor in range(2, number)):
            number += 1
        return number
    return primes(1000)[token % 1000 if config.token_primes == "cached" else token]


def place(n):
    """(sqrt(n) cos(a n), sqrt(n) sin(a n), ln(n + 1)), a the golden angle."""
    return [math.sqrt(n) * math.cos(GOLDEN * n), math.sqrt(n) * math.sin(GOLDEN * n), math.log(n + 1)]


def token_place(config, token):
    """On the spiral, or where a control puts it."""
    if config.token_places == "spiral":
        return place(token)
    return token_places_of(config.vocab_size, config.token_places, config.lattice_seed)[token].tolist()


def pair(config, a, b):
    """The feature of two tokens."""
    p, q = token_prime(config, a), token_prime(config, b)
    distance = math.dist(token_place(config, a), token_place(config, b)) / math.gcd(p, q)
    phase = (1.0 + math.cos(2.0 * math.pi * (p - q) / (p + q))) / 2.0
    likeness = 0.5 if math.gcd(p, q) == 1 else 1.0 / math.gcd(p, q)
    return {
        "lattice-distance": -distance / math.sqrt(config.vocab_size),
        "prime-distance": -abs(math.log(p / q)),
        "phase": phase,
        "similarity": math.gcd(p, q) / max(p, q),
        "resonance": (1.0 + likeness) * phase / (1.0 + distance),
    }[config.attention_bias]


def biased(config, scores, strength, tokens):
    """S + s f for every pair of positions, S (1 + s (r - 1)) for the resonance."""
    feature = np.array([[[pair(config, int(a), int(b)) for b in row] for a in row] for row in tokens])
    if config.attention_bias == "resonance":
        return scores * (1.0 + strength * (feature - 1.0))
    return scores + strength * feature


def queries_and_keys(config, q, k, tokens):
    """Both (B, T, D), token by token: the keys turned or rotated, then the operation of the token's class on both."""
    width = q.shape[-1]
    new_q, new_k = [], []
    for b, row in enumerate(tokens):
        for t, token in enumerate(row):
            prime = token_prime(config, int(token))
            key = key_matrix(config.keys, prime, width) @ k[b, t]
            if config.keys == "historical":
                added = [0.1 * number for number in token_place(config, int(token))] + [0.0] * (width - 3)
                key = (key + np.array(added)) / math.sqrt(prime)
            operation = symmetry_matrix(config.head_symmetry, prime % 12, width)
            new_q.append(operation @ q[b, t])
            new_k.append(operation @ key)
    return np.array(new_q).reshape(q.shape), np.array(new_k).reshape(k.shape)


def key_matrix(kind, prime, width):
    """k = M q: the original's turn, the rotation of pairs, or nothing."""
    angles = [GOLDEN * (prime % 360) * i / width for i in range(width)]
    matrix = np.eye(width)
    if kind in ("turned", "historical"):
        matrix = np.zeros((width, width))
        for i, angle in enumerate(angles):
            matrix[i, i] += math.cos(angle)
            matrix[i, (i + 1) % width] -= math.sin(angle)
    if kind == "rotated":
        for i in range(0, width, 2):
            matrix[i : i + 2, i : i + 2] = turn(angles[i])
    return matrix


def symmetry_matrix(kind, g, width):
    """Operation g of the cyclic group, or of the original's twelve."""
    matrix = np.eye(width)
    if kind == "none" or (kind == "historical" and g == 0):
        return matrix
    if kind == "historical" and g == 6:
        matrix[0, 0] = matrix[1, 1] = -1.0
        return matrix
    for i in range(0, width, 2):
        matrix[i : i + 2, i : i + 2] = turn(2.0 * math.pi * g / 12)
    if kind == "historical" and g in (2, 4, 8, 10):
        matrix[0] = -matrix[0]
    if kind == "historical" and g in (3, 9):
        matrix = 1.1 * matrix
    return matrix


def turn(angle):
    """The rotation of the plane."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def positions(n_positions, d_model):
    """sqrt(d / 2) times the unit rows of the waves of place and prime."""
    rows = []
    for n in range(n_positions):
        x, y, z = place(n)
        prime = primes(1000)[n]
        row = [
            0.3 * math.sin(f * x / 10)
            + 0.3 * math.cos(f * y / 10)
            + 0.3 * math.sin(f * z / 10)
            + 0.1 * math.cos(2.0 * math.pi * f * (prime % 12) / 12)
            for f in range(1, d_model + 1)
        ]
        length = math.sqrt(sum(number**2 for number in row))
        rows.append([math.sqrt(d_model / 2) * number / length for number in row])
    return np.array(rows)
