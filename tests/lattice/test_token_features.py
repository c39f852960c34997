import numpy as np
import pytest

from cllm_lab import lattice
from cllm_lab.lattice import token_features
from cllm_lab.lattice.token_features import (
    PAIR_FEATURES,
    PLACE_MAPS,
    PRIME_MAPS,
    TokenLattice,
    token_lattice,
    token_places_of,
    token_primes_of,
)
from cllm_lab.model.config import CHOICES

V = 40


def test_a_configuration_offers_exactly_these():
    assert set(CHOICES["attention_bias"]) == {"none", *PAIR_FEATURES}
    assert set(CHOICES["token_primes"]) == set(PRIME_MAPS)
    assert set(CHOICES["token_places"]) == set(PLACE_MAPS)


@pytest.mark.parametrize("kind", ["nth", "growth", "cached"])
def test_the_maps_are_those_of_the_lattice(kind):
    assert np.array_equal(token_primes_of(1500, kind), lattice.TOKEN_PRIMES[kind](np.arange(1500)))


def test_shuffled_primes_are_the_same_primes_in_an_order_of_the_seed():
    primes = token_primes_of(V, "shuffled", 3)
    assert sorted(primes) == list(lattice.nth_prime(np.arange(1, V + 1)))
    assert not np.array_equal(primes, np.sort(primes))
    assert np.array_equal(primes, token_primes_of(V, "shuffled", 3))
    assert not np.array_equal(primes, token_primes_of(V, "shuffled", 4))


def test_shuffled_places_keep_all_distances_and_random_ones_each_axis():
    spiral, shuffled, random = (token_places_of(V, kind, 1) for kind in PLACE_MAPS)
    assert np.array_equal(spiral, lattice.spiral_position(np.arange(V)))

    def distances(places):
        return np.sort(np.linalg.norm(places[:, None] - places[None], axis=-1), axis=None)

    assert np.allclose(distances(shuffled), distances(spiral))
    assert not np.array_equal(shuffled, spiral)
    assert not np.allclose(distances(random), distances(spiral))
    assert np.array_equal(np.sort(random, axis=0), np.sort(spiral, axis=0))


@pytest.mark.parametrize("made", [token_primes_of(V), token_places_of(V)])
def test_what_is_shared_cannot_be_written(made):
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 1


def by_hand(tokens, feature, a, b):
    p, q = (int(tokens.primes[each]) for each in (a, b))
    distance = float(lattice.lattice_distance(tokens.places[a], tokens.places[b], p, q))
    return {
        "lattice-distance": -distance / np.sqrt(tokens.vocab_size),
        "prime-distance": -abs(np.log(p / q)),
        "phase": float(lattice.phase_alignment(p, q)),
        "similarity": float(lattice.gcd_over_max(p, q)),
        "resonance": float(lattice.resonance_factor(distance, p, q)),
    }[feature]


@pytest.mark.parametrize("primes", PRIME_MAPS)
@pytest.mark.parametrize("feature", PAIR_FEATURES)
def test_a_pair_has_its_feature_from_the_table_and_without_one(feature, primes, monkeypatch):
    ids = np.random.default_rng(0).integers(0, V, (2, 6))
    tokens = TokenLattice(V, primes, "random", seed=2)
    found = tokens.pairs(feature, ids)
    assert found.shape == (2, 6, 6)
    for b, i, j in np.ndindex(found.shape):
        assert found[b, i, j] == pytest.approx(by_hand(tokens, feature, ids[b, i], ids[b, j]), rel=1e-12)
    monkeypatch.setattr(token_features, "LARGEST_TABLE", V - 1)
    without = TokenLattice(V, primes, "random", seed=2)
    assert np.array_equal(without.pairs(feature, ids), found)
    assert not without._tables
    assert tokens._tables


def test_distances_say_more_of_near_tokens():
    tokens = TokenLattice(V)
    for feature in ("lattice-distance", "prime-distance"):
        pairs = tokens.pairs(feature, np.arange(V))
        assert (np.diag(pairs) == 0).all()
        assert (pairs[~np.eye(V, dtype=bool)] < 0).all()
        assert np.allclose(pairs, pairs.T)
    assert -3.0 < TokenLattice(1000).pairs("lattice-distance", np.arange(1000)).min() < -1.0


def test_the_lattice_of_the_same_settings_is_made_once():
    assert token_lattice(V, "growth") is token_lattice(V, "growth")
    assert token_lattice(V, "growth") is not token_lattice(V, "nth")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: token_primes_of(0), "vocab_size must be"),
        (
            lambda: token_primes_of(5, "primes"),
            "token_primes must be one of 'growth', 'nth', 'cached', 'shuffled'",
        ),
        (
            lambda: token_places_of(5, "ulam"),
            "token_places must be one of 'spiral', 'shuffled', 'random'; got 'ulam'",
        ),
        (lambda: token_places_of(5, "random", -1), "seed must be a non-negative integer"),
        (lambda: TokenLattice(5).pairs("gcd", [[1]]), "feature must be one of 'lattice-distance'"),
        (lambda: TokenLattice(5).pairs("phase", [[5]]), "tokens must"),
        (lambda: TokenLattice(5).pairs("phase", [[-1]]), "tokens must"),
        (lambda: TokenLattice(5).pairs("phase", 3), "tokens must be a sequence of ids.*single id 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_was_made_once_excuses_no_wrong_type():
    token_primes_of(7)
    with pytest.raises(TypeError, match="vocab_size"):
        token_primes_of(7.0)
