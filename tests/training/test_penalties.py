"""What the penalties are: values, gradients, landmarks, and what they do where they have no meaning."""

import math

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab import lattice
from cllm_lab.lattice.token_features import token_lattice, token_places_of, token_primes_of
from cllm_lab.training.config import PENALTIES
from cllm_lab.training.penalties import (
    LatticePenalties,
    geometric_constraint,
    historical_loss,
    prime_structure,
    symmetry_preservation,
)
from tests.training.machines import make_model

# A second account of each penalty, a pair or a class at a time, for autograd to differentiate.


def pairs(n):
    return [(a, b) for a in range(n) for b in range(a + 1, n)]


def geometric_oracle(e, distances):
    d = anp.array([anp.sqrt(anp.sum((e[a] - e[b]) ** 2)) for a, b in pairs(len(e))])
    t = np.array([distances[a][b] for a, b in pairs(len(e))])
    d, t = d - anp.mean(d), t - np.mean(t)
    return 1.0 - anp.sum(d * t) / anp.sqrt(anp.sum(d**2) * np.sum(t**2))


def turned(x, steps):
    """Every pair of dimensions turned by so many twelfths."""
    c, s = math.cos(math.tau * steps / 12), math.sin(math.tau * steps / 12)
    matrix = np.kron(np.eye(x.shape[-1] // 2), [[c, -s], [s, c]])
    return anp.dot(matrix, x)


def symmetry_oracle(e, classes):
    n = len(e)
    members = {g: [a for a in range(n) if classes[a] == g] for g in set(map(int, classes))}
    u = {g: turned(sum(e[a] for a in among) / len(among), -g) for g, among in members.items()}
    middle = sum(len(members[g]) / n * u[g] for g in u)
    spread = sum(len(members[g]) / n * anp.sum((u[g] - middle) ** 2) for g in u)
    return spread / (anp.sum(e**2) / n)


def prime_oracle(e, similarities):
    squares = [
        (
            anp.dot(e[a], e[b]) / anp.sqrt(anp.dot(e[a], e[a])) / anp.sqrt(anp.dot(e[b], e[b]))
            - similarities[a][b]
        )
        ** 2
        for a, b in pairs(len(e))
    ]
    return sum(squares) / len(squares)


def rows(n, width, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1.0, (n, width))


def some_distances(n, seed=1):
    places = rows(n, 3, seed)
    return np.linalg.norm(places[:, None] - places, axis=-1)


CASES = {
    "geometric": (geometric_constraint, geometric_oracle, lambda n: some_distances(n)),
    "symmetry": (
        symmetry_preservation,
        symmetry_oracle,
        lambda n: np.random.default_rng(2).integers(0, 12, n),
    ),
    "prime": (prime_structure, prime_oracle, lambda n: np.random.default_rng(3).uniform(size=(n, n))),
}


def symmetric(table):
    return table if table.ndim == 1 else (table + table.T) / 2


@pytest.mark.parametrize(("n", "width"), [(3, 2), (4, 6), (17, 8), (40, 4)])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_second_account(name, n, width):
    penalty, oracle, make = CASES[name]
    e, table = rows(n, width), symmetric(make(n))
    value, gradient = penalty(e, table)
    expected, slopes = autograd.value_and_grad(oracle)(e, table)
    assert value == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-9, atol=1e-12)
    assert np.linalg.norm(gradient) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_a_common_offset_far_from_0_costs_the_gradient_few_digits(name):
    penalty, oracle, make = CASES[name]
    e, table = rows(9, 4) + 1e3, symmetric(make(9))
    np.testing.assert_allclose(
        penalty(e, table)[1], autograd.grad(oracle)(e, table), rtol=1e-6, atol=1e-12 * np.abs(e).max()
    )


@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_ranges_and_freedom_of_scale(n, half, seed, scale):
    e = rows(n, 2 * half, seed)
    for name, (low, high) in {"geometric": (0, 2), "symmetry": (0, 1), "prime": (0, 4)}.items():
        penalty, _, make = CASES[name]
        table = symmetric(make(n))
        value, gradient = penalty(e, table)
        larger, smaller_gradient = penalty(scale * e, table)
        assert low - 1e-12 <= value <= high + 1e-12
        assert larger == pytest.approx(value, rel=1e-9, abs=1e-12)
        # What is free of scale has no slope along the rows themselves.
        assert abs((gradient * e).sum()) <= 1e-9 * max(1.0, np.linalg.norm(gradient) * np.linalg.norm(e))
        np.testing.assert_allclose(
            scale * smaller_gradient, gradient, rtol=1e-6, atol=1e-9 * np.abs(gradient).max() + 1e-14
        )


# Landmarks.


def test_rows_that_lie_as_the_places_do_cost_nothing():
    places = token_places_of(20)
    axes = np.linalg.qr(rows(8, 8))[0][:3]
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    value, gradient = geometric_constraint(0.01 * places @ axes + 5.0, distances)
    assert value == pytest.approx(0.0, abs=1e-12)
    assert np.abs(gradient).max() < 1e-6
    assert geometric_constraint(rows(20, 8), distances)[0] > 0.5


def test_distances_the_wrong_way_round_cost_most():
    e = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert geometric_constraint(e, 10.0 - some_distances_of(e))[0] == pytest.approx(2.0, abs=1e-12)


def some_distances_of(e):
    return np.linalg.norm(e[:, None] - e, axis=-1)


def test_class_means_that_are_turns_of_one_another_cost_nothing():
    classes = symmetry_classes(40)
    turns = lattice.cyclic_group(6)
    one = rows(1, 6)[0]
    e = turns[classes] @ one
    assert symmetry_preservation(e, classes)[0] == pytest.approx(0.0, abs=1e-14)
    # Nor do differences within a class.
    noise = rows(40, 6, 4)
    for g in set(classes):
        noise[classes == g] -= noise[classes == g].mean(axis=0)
    value, gradient = symmetry_preservation(e + noise, classes)
    assert value == pytest.approx(0.0, abs=1e-14)
    assert np.abs(gradient).max() < 1e-14
    # The same turns the other way do.
    assert symmetry_preservation(turns[-classes % 12] @ one, classes)[0] > 0.1


def symmetry_classes(n):
    return lattice.symmetry_class(token_primes_of(n))


def test_classes_that_cancel_cost_most():
    classes = np.array([1, 1, 7, 7])
    e = lattice.cyclic_group(4)[classes] @ rows(1, 4)[0] * np.array([1, 1, -1, -1])[:, None]
    assert symmetry_preservation(e, classes)[0] == pytest.approx(1.0, abs=1e-14)


def test_one_class_alone_is_symmetric():
    value, gradient = symmetry_preservation(rows(5, 4), np.full(5, 7))
    assert value == pytest.approx(0.0, abs=1e-15)
    assert np.abs(gradient).max() < 1e-14


def test_rows_at_right_angles_cost_what_the_similarities_are():
    similarities = symmetric(CASES["prime"][2](6))
    above = [similarities[a, b] ** 2 for a, b in pairs(6)]
    assert prime_structure(3.0 * np.eye(6), similarities)[0] == pytest.approx(np.mean(above), rel=1e-12)


def test_tokens_that_share_a_prime_are_pulled_together():
    e, same = rows(4, 6), np.ones((4, 4))
    for _ in range(300):
        e = e - prime_structure(e, same)[1]
    directions = e / np.linalg.norm(e, axis=1, keepdims=True)
    assert (directions @ directions.T).min() > 0.99


@pytest.mark.parametrize("kind", ["nth", "shuffled"])
def test_on_distinct_primes_the_prime_penalty_decorrelates_and_does_nothing_else(kind):
    """The similarity of distinct primes is 1 / max: the penalty is within it of the mean squared cosine."""
    ids = np.arange(50, 90)
    primes = token_primes_of(100, kind)[ids]
    similarities = token_lattice(100, kind).pairs("similarity", ids)
    off = ~np.eye(len(ids), dtype=bool)
    assert len(set(primes)) == len(ids)
    np.testing.assert_array_equal(similarities[off], (1.0 / np.maximum(primes[:, None], primes))[off])
    e = rows(len(ids), 16)
    value, gradient = prime_structure(e, similarities)
    plain, plain_gradient = prime_structure(e, np.zeros_like(similarities))
    most = similarities[off].max()
    assert most == 1.0 / np.sort(primes)[1]
    assert abs(value - plain) <= 2.0 * most + most**2
    cosine = (gradient * plain_gradient).sum() / np.linalg.norm(gradient) / np.linalg.norm(plain_gradient)
    assert cosine > 0.999


def test_descending_the_prime_penalty_leaves_rows_nearly_at_right_angles():
    ids = np.arange(60, 72)
    similarities = token_lattice(100).pairs("similarity", ids)
    e = rows(len(ids), 16)

    def mean_squared_cosine(e):
        return prime_structure(e, np.zeros_like(similarities))[0]

    before = mean_squared_cosine(e)
    for _ in range(400):
        e = e - 20.0 * prime_structure(e, similarities)[1]
    assert prime_structure(e, similarities)[0] < 1e-6
    assert mean_squared_cosine(e) < 1e-4 < 0.01 < before


def historical_oracle(token, target):
    a, b = token + 1, target + 1
    angle = math.tau / ((1 + math.sqrt(5)) / 2) ** 2
    x, y = (
        (math.sqrt(n) * math.cos(angle * n), math.sqrt(n) * math.sin(angle * n), math.log(n + 1))
        for n in (a, b)
    )
    return -math.log(0.7 * math.gcd(a, b) / max(a, b) + 0.3 / (1 + math.dist(x, y)))


def test_the_historical_loss_is_that_of_the_ids():
    tokens, targets = np.random.default_rng(0).integers(0, 50, (2, 3, 7))
    expected = [historical_oracle(int(a), int(b)) for a, b in zip(tokens.flat, targets.flat, strict=True)]
    assert historical_loss(tokens, targets) == pytest.approx(np.mean(expected), rel=1e-12)
    assert historical_loss(tokens, tokens) == 0.0


# Where a formula has no meaning.


@pytest.mark.parametrize("e", [np.zeros((5, 4)), np.full((5, 4), 0.01), np.full((5, 4), 1 / 3)])
def test_rows_that_are_all_the_same(e):
    value, gradient = geometric_constraint(e, some_distances(5))
    assert (value, gradient.any()) == (1.0, False)
    classes = np.array([1, 5, 7, 11, 2])
    value, gradient = symmetry_preservation(e, classes)
    assert (value == 0.0 and not gradient.any()) if not e.any() else 0.0 < value <= 1.0
    value, gradient = prime_structure(e, np.full((5, 5), 0.25))
    assert value == pytest.approx(0.75**2 if e.any() else 0.25**2, rel=1e-12)
    assert np.abs(gradient).max() < 1e-12


def test_equal_distances_have_no_correlation():
    equilateral = np.eye(4)
    assert geometric_constraint(equilateral, some_distances(4)) == (1.0, pytest.approx(np.zeros((4, 4))))
    value, gradient = geometric_constraint(rows(4, 4), some_distances_of(equilateral))
    assert (value, gradient.any()) == (1.0, False)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_tokens(n):
    e = rows(n, 4)
    value, gradient = geometric_constraint(e, some_distances(n))
    assert (value, gradient.shape, gradient.any()) == (1.0, (n, 4), False)
    if n == 1:
        value, gradient = prime_structure(e, np.ones((1, 1)))
        assert (value, gradient.shape, gradient.any()) == (0.0, (1, 4), False)
        assert symmetry_preservation(e, np.array([5]))[0] == pytest.approx(0.0, abs=1e-15)


def test_two_rows_that_coincide_pull_in_no_direction():
    e = rows(5, 4)
    e[3] = e[1]
    value, gradient = geometric_constraint(e, some_distances(5))
    assert 0.0 <= value <= 2.0
    apart = e.copy()
    apart[3] += 1e-9
    near, near_gradient = geometric_constraint(apart, some_distances(5))
    assert near == pytest.approx(value, abs=1e-7)
    np.testing.assert_allclose(gradient[[0, 2, 4]], near_gradient[[0, 2, 4]], atol=1e-7)
    assert np.isfinite(gradient).all()


def test_a_row_of_zeros_among_others():
    e = rows(5, 4)
    e[2] = 0.0
    similarities = symmetric(CASES["prime"][2](5))
    value, gradient = prime_structure(e, similarities)
    assert not gradient[2].any()
    assert np.linalg.norm(gradient[[0, 1, 3, 4]]) > 1e-3
    others = [0, 1, 3, 4]
    rest, rest_gradient = prime_structure(e[others], similarities[np.ix_(others, others)])
    assert value * 20 == pytest.approx(rest * 12 + 2 * (similarities[2, others] ** 2).sum(), rel=1e-12)
    np.testing.assert_allclose(gradient[others] * 20, rest_gradient * 12, rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", CASES)
def test_a_number_that_is_none_shows_in_the_value(name, bad):
    penalty, _, make = CASES[name]
    e = rows(6, 4)
    e[2, 1] = bad
    with np.errstate(all="ignore"):
        assert math.isnan(penalty(e, symmetric(make(6)))[0])


# Of a machine.


SETTINGS = [
    {},
    {"token_primes": "growth"},
    {"token_primes": "cached", "vocab_size": 1050},
    {"token_primes": "shuffled", "lattice_seed": 3},
    {"token_places": "shuffled"},
    {"token_places": "random", "lattice_seed": 5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_primes_and_places_are_those_of_the_machine(settings):
    model = make_model(**{"vocab_size": 60, **settings})
    config = model.config
    V, seed = config.vocab_size, config.lattice_seed
    p = token_primes_of(V, config.token_primes, seed)
    x = token_places_of(V, config.token_places, seed)
    tokens, targets = np.array([[0, 1, 2, 3, 7, 59, 40]]), np.array([[1, 2, 3, 9, V - 50, V - 1, 3]])
    ids = sorted({*tokens.flat, *targets.flat})
    e = model.params["token_embedding"][ids].astype(np.float64)
    distances = [[math.dist(x[a], x[b]) / math.gcd(int(p[a]), int(p[b])) for b in ids] for a in ids]
    likeness = [[math.gcd(int(p[a]), int(p[b])) / max(p[a], p[b]) for b in ids] for a in ids]
    expected = {
        "geometric": geometric_oracle(e, distances),
        "symmetry": symmetry_oracle(e, [p[a] % 12 for a in ids]),
        "prime": prime_oracle(e, likeness),
        "gcd": historical_loss(tokens, targets),
    }
    penalties = LatticePenalties(config)
    found = penalties.values(model.params["token_embedding"], tokens, targets)
    assert tuple(found) == PENALTIES == penalties.names
    assert found == pytest.approx(expected, rel=1e-9)


def test_controls_change_what_they_are_controls_of():
    def values(**settings):
        model = make_model(vocab_size=60, **settings)
        tokens, targets = np.random.default_rng(0).integers(0, 60, (2, 2, 8))
        return LatticePenalties(model.config).values(model.params["token_embedding"], tokens, targets)

    plain = values()
    for kind in ("shuffled", "random"):
        places = values(token_places=kind)
        assert {name for name in PENALTIES if places[name] != plain[name]} == {"geometric"}
    primes = values(token_primes="shuffled")
    assert {name for name in PENALTIES if primes[name] != plain[name]} == {"symmetry", "prime"}


def test_the_weighted_sum_and_the_rows_it_belongs_to():
    model = make_model("reference", "float64", vocab_size=30)
    tokens, targets = np.array([[9, 4, 4, 20]]), np.array([[4, 9, 20, 17]])
    penalties = LatticePenalties(model.config)
    embedding = model.params["token_embedding"]
    alone = {name: penalties.weighted({name: 1.0}, embedding, tokens, targets) for name in PENALTIES}
    weights = {"geometric": 0.5, "symmetry": 2.0, "prime": 3.0, "gcd": 0.1}
    total, ids, gradient = penalties.weighted(weights, embedding, tokens, targets)
    assert ids.tolist() == [4, 9, 17, 20]
    assert total == pytest.approx(sum(weights[name] * alone[name][0] for name in PENALTIES), rel=1e-14)
    np.testing.assert_allclose(
        gradient, sum(weights[name] * alone[name][2] for name in PENALTIES), rtol=1e-12, atol=1e-16
    )
    assert not alone["gcd"][2].any()
    assert all(np.linalg.norm(alone[name][2]) > 1e-3 for name in PENALTIES if name != "gcd")
    assert {name: alone[name][0] for name in PENALTIES} == penalties.values(embedding, tokens, targets)
