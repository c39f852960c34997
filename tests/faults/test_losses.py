"""Each fault of the loss shows the signature that the catalogue states."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.faults import catalogue
from cllm_lab.faults.losses import FAULTS
from cllm_lab.model.gradient_check import gradient_check, random_point
from cllm_lab.model.parts import PartEdit
from cllm_lab.model.transformer import Pass
from cllm_lab.training.diagnostics import NonFiniteError
from tests.training.machines import TABLES, a_batch, make_model, make_trainer

POINTS = (2, 3)
CROSS_ENTROPY_PRINTED = (
    "mse-gradient",
    "wrong-sign",
    "wrong-sign-embeddings",
    "softmax-missing-in-backward",
    "reduction-sum",
    "last-position-only",
)
both_tables = pytest.mark.parametrize("table", TABLES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
at_each_point = pytest.mark.parametrize("point", POINTS)


def at_a_point(fault=None, table="reference", point=POINTS[0], dtype="float64", train=None, **settings):
    """A small trainer at a random point, with a fault of the catalogue or without."""
    model = make_model(table, dtype, **{"d_ff": 6, **settings})
    model.params.flat[:] = random_point(model.astype("float64").params, point).flat
    return make_trainer(model, faults=() if fault is None else (catalogue()[fault],), **(train or {}))


@cache
def slopes_of_cross_entropy(point):
    """Its gradient by central differences, number by number, in the machine of `at_a_point`."""
    trainer = at_a_point(point=point)
    batch, p = a_batch(trainer), trainer.params.flat
    slopes, h = np.empty_like(p), 1e-5
    for i, home in enumerate(p.copy()):
        p[i] = home + h
        above = trainer.loss(*batch)
        p[i] = home - h
        slopes[i] = (above - trainer.loss(*batch)) / (2 * h)
        p[i] = home
    return slopes


def cosine(a, b):
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def ratios_to_cross_entropy(trainer, point):
    """Tensor -> gradient that is followed / finite differences of cross-entropy, along the latter."""
    _, grads = trainer.gradients(*a_batch(trainer))
    slopes = trainer.params.like(slopes_of_cross_entropy(point))
    assert all(np.linalg.norm(slopes[name]) > 1e-3 for name in slopes)
    for name in slopes:  # parallel, not only of this length along it
        assert abs(cosine(grads[name], slopes[name])) == pytest.approx(1.0, abs=1e-6)
    return {name: np.vdot(grads[name], slopes[name]) / np.vdot(slopes[name], slopes[name]) for name in slopes}


def cross_entropy(trainer):
    """Taken from the logits, over the whole text, whatever the trainer prints."""
    model, train = trainer.model, trainer.config
    sound = model.swapped(loss=model.table.choose(model.config).loss)
    batches = epoch_batches(trainer.corpus.tokens, train.batch_size, train.sequence_length, False, 0, 0)
    losses = [sound.loss(batch.inputs, batch.targets) for batch in batches]
    return float(np.average(losses, weights=[batch.targets.size for batch in batches]))


def ln_v(trainer):
    return math.log(trainer.model.config.vocab_size)


# Every fault of the room.


@both_dtypes
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_acts_the_same_on_both_tables(fault, dtype):
    runs = {table: at_a_point(fault.id, table, dtype=dtype) for table in TABLES}
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    one, other = (trainer.gradients(*a_batch(trainer))[1].flat for trainer in runs.values())
    assert one.any()
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * abs(one).max())
    one, other = (trainer.run(steps=3).losses for trainer in runs.values())
    np.testing.assert_allclose(one, other, rtol=max(tolerance, 1e-8))


@both_tables
@both_dtypes
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_what_goes_back_keeps_the_machines_precision(fault, table, dtype):
    trainer = at_a_point(fault.id, table, dtype=dtype)
    batch = a_batch(trainer)
    if "loss" not in fault.swaps:
        assert trainer.gradients(*batch)[1].flat.dtype == dtype
        return
    # The real trainer's pass, so that the gradient has somewhere to go.
    trainer.step(*batch)
    kept = trainer._pass(batch[0].shape)
    assert isinstance(kept, Pass)
    kept.root.sink.begin()
    handed_back = trainer.model.parts.loss.backward(kept.root.child("loss"))
    assert {array.dtype.name for array in handed_back if array is not None} <= {dtype}


@both_tables
@pytest.mark.parametrize("fault", CROSS_ENTROPY_PRINTED)
def test_an_edited_backward_leaves_the_printed_loss_alone(fault, table):
    trainer, sound = at_a_point(fault, table), at_a_point(None, table)
    assert trainer.loss(*a_batch(trainer)) == sound.loss(*a_batch(sound))


@both_tables
@pytest.mark.parametrize("fault", CROSS_ENTROPY_PRINTED)
def test_its_gradient_is_not_that_of_the_printed_loss(fault, table):
    trainer = at_a_point(fault, table)
    assert max(gradient_check(trainer.model, *a_batch(trainer)).values()) > 0.1


@both_tables
@at_each_point
@pytest.mark.parametrize("settings", [{}, {"norm": "post"}, {"tied": False}], ids=["pre", "post", "untied"])
@pytest.mark.parametrize("fault", ["mse-loss", "embedding-similarity-loss"])
def test_a_loss_swapped_in_both_halves_agrees_with_itself(fault, settings, point, table):
    trainer = at_a_point(fault, table, **settings)
    assert max(gradient_check(trainer.model, *a_batch(trainer), seed=point).values()) < 1e-6


# mse-gradient.


@both_tables
def test_mse_gradient_is_mse_loss_without_the_path_to_the_target(table):
    trainer, both = at_a_point("mse-gradient", table), at_a_point("mse-loss", table)
    tokens, targets = a_batch(trainer)
    _, grads = trainer.gradients(tokens, targets)
    _, whole = both.gradients(tokens, targets)
    E, h = trainer.params["token_embedding"], trainer.forward(tokens).final_hidden
    path = np.zeros_like(E)
    for place in np.ndindex(tokens.shape):
        path[targets[place]] -= 2 * (h[place] - E[targets[place]]) / targets.size
    np.testing.assert_allclose(
        whole["token_embedding"] - grads["token_embedding"], path, rtol=0, atol=1e-12 * abs(path).max()
    )
    assert all((whole[name] == grads[name]).all() for name in grads if name != "token_embedding")


def test_mse_gradient_disagrees_with_the_printed_loss_at_random_points():
    found = []
    for point in POINTS:
        trainer = at_a_point("mse-gradient", point=point)
        _, grads = trainer.gradients(*a_batch(trainer))
        found.append(cosine(grads.flat, slopes_of_cross_entropy(point)))
    assert max(found) < 0.8


def test_mse_gradient_starts_near_cross_entropys_but_for_the_final_norm():
    fault = catalogue()["mse-gradient"]
    broken, healthy = fault.broken(), fault.healthy()
    tokens = broken.corpus.tokens[:129]
    batch = tokens[:-1].reshape(4, 32), tokens[1:].reshape(4, 32)
    _, grads = broken.gradients(*batch)
    _, true = healthy.gradients(*batch)
    matrices = [name for name in grads if name.startswith("layers.") and ".w_" in name]
    assert min(cosine(grads[name], true[name]) for name in matrices) > 0.9
    assert cosine(grads["ln_final.gamma"], true["ln_final.gamma"]) < 0.2


def lengths(trainer):
    """Mean length of a final hidden state, and of an embedding."""
    hidden = trainer.forward(trainer.corpus.tokens[None, :32]).final_hidden
    return tuple(
        float(np.linalg.norm(rows, axis=-1).mean()) for rows in (hidden, trainer.params["token_embedding"])
    )


def test_mse_gradient_shrinks_the_hidden_states_and_leaves_the_loss_at_ln_v():
    fault = catalogue()["mse-gradient"]
    trainer, healthy = fault.broken(), fault.healthy()
    hidden, embedding = lengths(trainer)
    printed = trainer.run(epochs=fault.scenario.epochs).epoch_loss
    assert max(abs(loss - ln_v(trainer)) for loss in printed) < 0.01
    assert lengths(trainer)[0] < 0.1 * hidden
    assert lengths(trainer)[1] == pytest.approx(embedding, rel=0.05)
    assert healthy.run(epochs=fault.scenario.epochs).epoch_loss[-1] < ln_v(healthy) - 0.3


def test_mse_gradient_at_other_rates():
    fault = catalogue()["mse-gradient"]
    large = replace(fault.scenario, train={**fault.scenario.train, "learning_rate": 1.0})
    with pytest.raises(NonFiniteError):
        large.trainer((fault,)).run(steps=20)
    far = at_a_point("mse-gradient", "fast", train={"learning_rate": 1.0})
    assert far.run(epochs=20).epoch_loss[-1] > 2 * ln_v(far)
    learning = at_a_point("mse-gradient", "fast", train={"learning_rate": 1e-2})
    learning.run(epochs=150)
    assert cross_entropy(learning) < learning.corpus.plateaus().unigram


# mse-loss.


@both_tables
def test_mse_loss_is_the_squared_distance(table):
    trainer = at_a_point("mse-loss", table)
    tokens, targets = a_batch(trainer)
    E, h = trainer.params["token_embedding"], trainer.forward(tokens).final_hidden
    by_hand = [math.dist(h[place], E[targets[place]]) ** 2 for place in np.ndindex(tokens.shape)]
    assert trainer.loss(tokens, targets) == pytest.approx(np.mean(by_hand), rel=1e-12)


def test_mse_loss_falls_to_nothing_as_all_embeddings_become_one():
    fault = catalogue()["mse-loss"]
    trainer = fault.broken()
    printed, taken = [], []
    for _ in range(fault.scenario.epochs):
        printed.append(trainer.run(epochs=1).epoch_loss[-1])
        taken.append(cross_entropy(trainer))
    unigram = trainer.corpus.plateaus().unigram
    assert trainer.history[0].loss == pytest.approx(trainer.model.config.d_model, rel=0.1)
    assert printed[-1] < 0.02
    assert unigram < min(taken) < unigram + 0.2
    assert taken[-1] == pytest.approx(ln_v(trainer), abs=0.05)
    used = trainer.params["token_embedding"][np.unique(trainer.corpus.tokens)]
    directions = used / np.linalg.norm(used, axis=1, keepdims=True)
    assert (directions @ directions.mean(axis=0)).mean() > 0.98
    assert len(set(trainer.generate("the", 12, temperature=0.0).split()[1:])) == 1


# loss-ignores-model.


@both_tables
@both_dtypes
def test_the_loss_from_ids_does_not_see_the_model(table, dtype):
    trainer = at_a_point("loss-ignores-model", table, dtype=dtype)
    tokens, targets = a_batch(trainer)
    printed = trainer.loss(tokens, targets)
    golden = (1 + math.sqrt(5)) / 2

    def place(n):
        angle = n * 2 * math.pi / golden**2
        return math.sqrt(n) * math.cos(angle), math.sqrt(n) * math.sin(angle), math.log(n + 1)

    by_hand = []
    for a, b in zip((tokens.ravel() + 1).tolist(), (targets.ravel() + 1).tolist(), strict=True):
        likeness = 0.7 * math.gcd(a, b) / max(a, b) + 0.3 / (1 + math.dist(place(a), place(b)))
        by_hand.append(-math.log(max(1e-10, likeness)))
    assert printed == pytest.approx(np.mean(by_hand), rel=1e-12)
    for seed in POINTS:
        trainer.params.flat[:] = np.random.default_rng(seed).normal(size=trainer.params.flat.size)
        assert trainer.loss(tokens, targets) == printed
    assert trainer.step(tokens, targets).loss == printed


def test_a_token_that_follows_itself_costs_nothing():
    trainer = at_a_point("loss-ignores-model")
    tokens, _ = a_batch(trainer)
    assert trainer.loss(tokens, tokens) == 0.0


@both_tables
def test_below_a_printed_constant_the_true_gradient_is_followed(table):
    trainer, sound = at_a_point("loss-ignores-model", table), at_a_point(None, table)
    batch = a_batch(trainer)
    assert (trainer.gradients(*batch)[1].flat == sound.gradients(*batch)[1].flat).all()


def test_the_text_improves_below_a_printed_constant():
    fault = catalogue()["loss-ignores-model"]
    trainer = fault.broken()
    words = trainer.corpus.text.lower().split()
    pairs = set(itertools.pairwise(words))

    def known_pairs():
        text = trainer.generate("the", 60, temperature=0.5, seed=1).split()
        return sum(pair in pairs for pair in itertools.pairwise(text))

    before = known_pairs()
    printed = trainer.run(epochs=8).epoch_loss
    assert len(set(printed)) == 1
    assert cross_entropy(trainer) < trainer.corpus.plateaus().unigram - 0.5
    assert known_pairs() > before + 5


# embedding-similarity-loss.


@both_tables
def test_the_similarity_loss_is_of_embeddings_alone(table):
    trainer = at_a_point("embedding-similarity-loss", table)
    tokens, targets = a_batch(trainer)
    E = trainer.params["token_embedding"]
    dots = [float(E[tokens[place]] @ E[targets[place]]) for place in np.ndindex(tokens.shape)]
    assert min(dots) < 0.0 < max(dots)
    printed, grads = trainer.gradients(tokens, targets)
    assert printed == pytest.approx(np.mean([-math.log(max(1e-10, dot)) for dot in dots]), rel=1e-12)
    assert [name for name in grads if grads[name].any()] == ["token_embedding"]
    for name, values in trainer.params.items():
        if name != "token_embedding":
            values[...] += 1.0
            assert trainer.loss(tokens, targets) == printed


def test_a_pair_of_no_positive_product_pulls_at_nothing():
    trainer = at_a_point("embedding-similarity-loss")
    tokens, targets = np.array([[0, 1, 2]]), np.array([[1, 2, 0]])
    trainer.params["token_embedding"][:3] = np.eye(3, 8)
    loss, grads = trainer.gradients(tokens, targets)
    assert loss == pytest.approx(10 * math.log(10), rel=1e-12)
    assert not grads.flat.any()


def test_the_similarity_loss_falls_and_cross_entropy_climbs():
    fault = catalogue()["embedding-similarity-loss"]
    trainer = fault.broken()
    printed = trainer.run(epochs=fault.scenario.epochs).epoch_loss
    assert printed[-1] < 0.5 * printed[0]
    assert cross_entropy(trainer) > ln_v(trainer)


def test_the_similarity_loss_goes_below_zero():
    trainer = at_a_point("embedding-similarity-loss", "fast", train={"learning_rate": 0.1})
    assert trainer.run(epochs=60).epoch_loss[-1] < 0.0
    assert cross_entropy(trainer) > ln_v(trainer)


# wrong-sign and wrong-sign-embeddings.


@both_tables
@at_each_point
def test_wrong_sign_is_minus_one(table, point):
    ratios = ratios_to_cross_entropy(at_a_point("wrong-sign", table, point), point)
    assert list(ratios.values()) == pytest.approx([-1.0] * len(ratios), abs=1e-6)


def test_wrong_sign_climbs_from_the_first_epoch_on():
    fault = catalogue()["wrong-sign"]
    trainer = fault.broken()
    printed = trainer.run(epochs=fault.scenario.epochs).epoch_loss
    assert all(later > earlier for earlier, later in itertools.pairwise(printed))
    assert printed[-1] > 1.5 * ln_v(trainer)


@both_tables
def test_wrong_sign_embeddings_is_the_documents_sum(table):
    trainer = at_a_point("wrong-sign-embeddings", table)
    tokens, targets = a_batch(trainer)
    _, grads = trainer.gradients(tokens, targets)
    E = trainer.params["token_embedding"]
    expected = np.zeros_like(E)
    for place in np.ndindex(tokens.shape):
        expected[tokens[place]] += E[targets[place]] - E[tokens[place]]
    np.testing.assert_allclose(grads["token_embedding"], expected, rtol=0, atol=1e-12)
    assert [name for name in grads if grads[name].any()] == ["token_embedding"]


@at_each_point
def test_wrong_sign_embeddings_has_nothing_to_do_with_the_printed_loss(point):
    trainer = at_a_point("wrong-sign-embeddings", point=point)
    _, grads = trainer.gradients(*a_batch(trainer))
    assert abs(cosine(grads.flat, slopes_of_cross_entropy(point))) < 0.3


def test_wrong_sign_embeddings_drives_embeddings_and_loss_up():
    fault = catalogue()["wrong-sign-embeddings"]
    trainer = fault.broken()
    size = np.linalg.norm(trainer.params["token_embedding"])
    printed = []
    for _ in range(fault.scenario.epochs):
        printed.append(trainer.run(epochs=1).epoch_loss[-1])
        size, before = np.linalg.norm(trainer.params["token_embedding"]), size
        assert size > before
    assert printed[-1] > 2 * ln_v(trainer)


# General ones.


@both_tables
def test_softmax_missing_is_the_gradient_of_a_squared_error_of_logits(table):
    def half_squared_distance(logits, site):
        onehot = np.eye(logits.shape[-1])[site.run.targets]
        return float(0.5 * ((logits - onehot) ** 2).sum() / site.run.targets.size)

    trainer = at_a_point("softmax-missing-in-backward", table)
    consistent = trainer.model.swapped(loss=PartEdit("consistent", forward=half_squared_distance))
    assert max(gradient_check(consistent, *a_batch(trainer)).values()) < 1e-6


def test_softmax_missing_stays_near_ln_v():
    fault = catalogue()["softmax-missing-in-backward"]
    trainer, healthy = fault.broken(), fault.healthy()
    hidden, _ = lengths(trainer)
    printed = trainer.run(epochs=fault.scenario.epochs).epoch_loss
    assert max(abs(loss - ln_v(trainer)) for loss in printed) < 0.1
    assert lengths(trainer)[0] < 0.9 * hidden
    unigram = healthy.corpus.plateaus().unigram
    assert healthy.run(epochs=fault.scenario.epochs).epoch_loss[-1] < unigram - 1.0


@both_tables
@at_each_point
def test_reduction_sum_is_the_number_of_targets(table, point):
    trainer = at_a_point("reduction-sum", table, point)
    ratios = ratios_to_cross_entropy(trainer, point)
    count = a_batch(trainer)[1].size
    assert list(ratios.values()) == pytest.approx([count] * len(ratios), rel=1e-6)


def test_clipping_hides_a_sum_and_sgd_without_it_multiplies_its_rate():
    clipped = {"optimizer": "sgd", "clip_norm": 1e-3}
    broken, sound = (at_a_point(fault, train=clipped) for fault in ("reduction-sum", None))
    batch = a_batch(sound)
    steps = [trainer.step(*batch) for trainer in (broken, sound)]
    np.testing.assert_allclose(broken.params.flat, sound.params.flat, rtol=0, atol=1e-7)
    assert steps[0].grad_norm == pytest.approx(batch[1].size * steps[1].grad_norm)
    plain = {"optimizer": "sgd", "clip_norm": None}
    broken, sound = (at_a_point(fault, train=plain) for fault in ("reduction-sum", None))
    assert broken.step(*batch).update_ratio == pytest.approx(batch[1].size * sound.step(*batch).update_ratio)


@both_tables
def test_last_position_only_is_the_gradient_of_the_last_loss_over_the_length(table):
    def last_loss_over_length(logits, site):
        z, targets = logits[:, -1], site.run.targets
        site.saved["probabilities"] = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        losses = np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, targets[:, -1:], axis=-1)[:, 0]
        return float(losses.mean() / targets.shape[1])

    trainer = at_a_point("last-position-only", table)
    consistent = trainer.model.swapped(loss=PartEdit("consistent", forward=last_loss_over_length))
    assert max(gradient_check(consistent, *a_batch(trainer)).values()) < 1e-6


def test_last_position_only_fades_while_the_mean_rises():
    trainer = at_a_point("last-position-only", "fast", train={"learning_rate": 3e-2})
    history = trainer.run(epochs=60)
    per_epoch = trainer.steps_per_epoch
    first, last = history[:per_epoch], history[-per_epoch:]
    assert max(record.grad_norm for record in last) < 0.1 * min(record.grad_norm for record in first)
    assert history.epoch_loss[-1] > ln_v(trainer) + 1.0
