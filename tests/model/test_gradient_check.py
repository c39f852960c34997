import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from cllm_lab.model.activations import GradientSink
from cllm_lab.model.config import CHOICES
from cllm_lab.model.gradient_check import gradient_check, random_point
from cllm_lab.model.parts import Part
from cllm_lab.model.transformer import Pass
from tests.model.configurations import CASES, TABLES, by_name
from tests.model.planted_faults import FAULTY, PLANTED, faulty_model, without_the_variance_term


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_gradient_of_a_healthy_machine_is_that_of_its_loss(case, table):
    model = case.model(table)
    errors = gradient_check(model, *case.tokens_and_targets(), dropout_seed=case.dropout_seed)
    assert list(errors) == list(model.params)
    assert {name: error for name, error in errors.items() if not error <= 1e-6} == {}


def test_the_cases_hold_every_pair_of_choices():
    values = {**CHOICES, "tied": (True, False), "dropping": (True, False)}
    del values["init"], values["embedding_init"]  # the check leaves the initial point behind
    present = set()
    for case in CASES:
        settings = {field: getattr(case.config, field) for field in values if field != "dropping"}
        settings["dropping"] = case.config.dropout > 0
        present |= set(combinations(sorted(settings.items()), 2))
    wanted = {
        tuple(sorted(((a, x), (b, y))))
        for a, b in combinations(values, 2)
        for x, y in product(values[a], values[b])
        if not without_attention(a, x, b, y) and not without_attention(b, y, a, x)
    }
    assert wanted - present == set()
    for field in ("init", "embedding_init"):
        assert {getattr(case.config, field) for case in CASES} == set(CHOICES[field])


def without_attention(field, choice, other, its_choice):
    """Whether the second choice is of a part of the attention that the first leaves out."""
    left_out = other in ("keys", "head_symmetry", "attention_bias") and its_choice != CHOICES[other][0]
    return (field, choice) == ("attention", "none") and left_out


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_shows_in_the_tensors_that_it_spoils_and_in_no_other(name, table):
    errors = gradient_check(
        faulty_model(name, table), *FAULTY.tokens_and_targets(), dropout_seed=FAULTY.dropout_seed
    )
    fault = PLANTED[name]
    unseen = {tensor: error for tensor, error in errors.items() if fault.spoiled(tensor) and not error > 1e-3}
    accused = {
        tensor: error for tensor, error in errors.items() if not fault.spoiled(tensor) and not error < 1e-6
    }
    assert (unseen, accused) == ({}, {})


def layer_norm_error(gamma, dout):
    """Relative error of dx, by central differences of sum(dout * y), for a layer norm without its variance term."""
    model = by_name("default").model("reference")
    norm = model.parts.norm
    site = Pass(model, GradientSink(model.params.like())).root.child("layers.0").child("ln1")
    site.params["gamma"][:] = gamma
    x = np.random.default_rng(0).normal(size=(2, 5, 8))
    norm.forward(x, site)
    analytic = without_the_variance_term(norm, np.broadcast_to(dout, x.shape).copy(), site)
    numeric = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[place] = 1e-5
        numeric[place] = ((norm.forward(x + h, site) - norm.forward(x - h, site)) * dout).sum() / 2e-5
    return np.abs(numeric - analytic).max() / max(np.abs(numeric).max(), np.abs(analytic).max(), 1.0)


def test_the_natural_check_is_blind_to_a_missing_term_and_the_random_one_is_not():
    rng = np.random.default_rng(1)
    assert layer_norm_error(np.ones(8), np.ones(8)) < 1e-9
    assert layer_norm_error(np.ones(8), rng.normal(size=(2, 5, 8))) > 0.1
    assert layer_norm_error(rng.normal(1.0, 0.3, 8), np.ones(8)) > 0.01


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_mask_is_not_a_wrong_gradient(table):
    """It computes another function, and differentiates that one soundly: causality shows it, not this check."""
    case = by_name("default")
    model = case.model(table)
    everything = Part("planted", lambda T, site: np.ones((T, T), bool))
    errors = gradient_check(model.swapped(mask=everything), *case.tokens_and_targets())
    assert max(errors.values()) < 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_is_the_worst_error_of_its_tensor(bad):
    case = by_name("default")
    model = case.model()

    def backward(dy, site):
        dx = model.parts.w_out.backward(dy, site)
        site.gradient_accumulator("b_out")[0] = bad
        return dx

    spoiled = model.swapped(w_out=replace(model.parts.w_out, backward=backward))
    errors = gradient_check(spoiled, *case.tokens_and_targets())
    assert {name for name, error in errors.items() if not error < 1e-3} == {
        "layers.0.b_out",
        "layers.1.b_out",
    }


def test_a_loss_that_is_no_number_on_one_side_only_is_still_seen():
    """The worst of several directions is NaN where one of them is, in whatever order they come."""
    case = by_name("one-layer")
    model = case.model()
    calls = 0

    def forward(logits, site):
        nonlocal calls
        calls += 1
        # The first loss belongs to the gradient; the next four are the first direction of the first tensor.
        return math.nan if calls == 2 else model.parts.loss.forward(logits, site)

    errors = gradient_check(
        model.swapped(loss=replace(model.parts.loss, forward=forward)), *case.tokens_and_targets()
    )
    assert [name for name, error in errors.items() if math.isnan(error)] == ["token_embedding"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_is_left_as_it_was(dtype):
    case = by_name("default")
    model = case.model(dtype=dtype)
    before = model.params.flat.copy()
    gradient_check(model, *case.tokens_and_targets())
    assert model.params.flat.dtype == dtype
    assert np.array_equal(model.params.flat, before)


def test_a_float32_machine_is_checked_in_float64():
    case = by_name("default")
    errors = gradient_check(case.model("fast", "float32"), *case.tokens_and_targets())
    assert max(errors.values()) <= 1e-6


def test_the_same_seed_gives_the_same_errors_and_another_seed_others():
    case = by_name("one-layer")
    model, batch = case.model(), case.tokens_and_targets()
    assert gradient_check(model, *batch, seed=4) == gradient_check(model, *batch, seed=4)
    assert gradient_check(model, *batch, seed=4) != gradient_check(model, *batch, seed=5)


def test_a_random_point_is_near_the_models_own_and_special_nowhere():
    model = by_name("default").model()
    model.params.flat[:] = 0.0
    point = random_point(model.params, seed=0)
    assert not model.params.flat.any()
    assert point.flat.all()
    gains = np.concatenate([point[spec.name] for spec in point.specs if spec.role == "gain"])
    others = np.concatenate([point[spec.name].ravel() for spec in point.specs if spec.role != "gain"])
    assert gains.std() == pytest.approx(0.3, rel=5 / np.sqrt(gains.size))
    assert others.std() == pytest.approx(0.1, rel=5 / np.sqrt(others.size))
    assert not np.array_equal(point.flat, random_point(model.params, seed=1).flat)


def test_it_refuses_what_the_machine_refuses():
    case = by_name("default")
    with pytest.raises(ValueError, match="targets must have the shape of tokens"):
        gradient_check(case.model(), np.zeros((2, 5), int), np.zeros((2, 4), int))


# What it takes besides a model.


class Parabola:
    """Anything with params, astype, loss and gradients will do: here L = a |p|^2 with a gradient of 2 b p."""

    def __init__(self, model, a, b):
        self.model, self.a, self.b = model, a, b

    @property
    def params(self):
        return self.model.params

    def astype(self, dtype):
        return Parabola(self.model.astype(dtype), self.a, self.b)

    def loss(self, tokens, targets):
        return self.a * float(np.square(self.params.flat).sum())

    def gradients(self, tokens, targets):
        return self.loss(tokens, targets), self.params.like(2.0 * self.b * self.params.flat)


def test_the_loss_of_anything_is_held_against_its_own_gradient():
    case = by_name("one-layer")
    model, batch = case.model(dtype="float32"), case.tokens_and_targets()
    before = model.params.flat.copy()
    assert max(gradient_check(Parabola(model, 3.0, 3.0), *batch).values()) < 1e-6
    wrong = gradient_check(Parabola(model, 3.0, 1.5), *batch)
    assert list(wrong) == list(model.params)
    assert list(wrong.values()) == pytest.approx([0.5] * len(wrong), rel=1e-6)
    assert np.array_equal(model.params.flat, before)


def test_masks_are_replayed_for_a_model_alone():
    dropping = by_name("dropout")
    model, batch = dropping.model(), dropping.tokens_and_targets()
    assert gradient_check(model, *batch, dropout_seed=3) == gradient_check(model, *batch, dropout_seed=3)
    assert gradient_check(model, *batch, dropout_seed=3) != gradient_check(model, *batch)
    case = by_name("default")
    with pytest.raises(TypeError) as caught:
        gradient_check(Parabola(case.model(), 1.0, 1.0), *case.tokens_and_targets(), dropout_seed=3)
    assert str(caught.value) == (
        "dropout_seed=3 belongs to a Transformer; the loss of a Parabola is taken without dropout"
    )


@pytest.mark.parametrize("wrong", [None, "model", by_name("default").config])
def test_what_has_no_loss_and_gradients_is_refused(wrong):
    with pytest.raises(TypeError, match="model must be a Transformer or a trainer, with params, astype"):
        gradient_check(wrong, [[1]], [[1]])
