"""Each fault of the wiring shows the signature that the catalogue states, on both tables."""

import numpy as np
import pytest

from cllm_lab.faults import catalogue
from cllm_lab.training.parts import given_weights
from cllm_lab.training.trainer import Trainer
from tests.faults.evidence import (
    TABLES,
    batch,
    dependency,
    from_tensor,
    machine,
    wrong_gradients,
)

both_tables = pytest.mark.parametrize("table", TABLES)


def same_forward(model, other):
    acts, others = model.forward(batch()[0]), other.forward(batch()[0])
    return acts.names() == others.names() and all((acts[name] == others[name]).all() for name in acts)


def logits_without_sub_layers(model):
    for name, values in model.params.items():
        if name.endswith(("w_out", "w_ff2")):
            values[...] = 0.0
    return model.forward(batch()[0]).logits


@both_tables
def test_skipped_layers_move_no_logit(table):
    model = machine("skipped-layers", table)
    home = model.forward(batch()[0]).logits.copy()
    in_layers = {name for name in model.params if name.startswith("layers.")}
    _, grads = model.gradients(*batch())
    assert {name for name in grads if not grads[name].any()} == in_layers
    assert wrong_gradients(model) == set()
    for name in in_layers:
        model.params[name][...] += 1.0
    assert (model.forward(batch()[0]).logits == home).all()
    assert (dependency(model) == np.eye(8, dtype=bool)).all()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_skipped_layers_hand_the_embedding_to_the_output(norm):
    model = machine("skipped-layers", norm=norm, positions="none")
    acts = model.forward(batch()[0])
    assert (acts["layers.1"] == model.params["token_embedding"][batch()[0]]).all()


def layer_norms(trainer):
    """Norm of the gradient of the matrices of the first layer, of the last, and of the last bias."""
    tokens = trainer.corpus.tokens[:129].astype(np.int32)
    _, grads = trainer.gradients(tokens[:-1].reshape(4, 32), tokens[1:].reshape(4, 32))

    def norm(start):
        return np.sqrt(
            sum((grads[name].astype(float) ** 2).sum() for name in grads if name.startswith(start))
        )

    return norm("layers.0.w"), norm("layers.7.w"), norm("ln_final.beta")


def test_vanishing_gradient_in_its_scenario():
    fault = catalogue()["vanishing-gradient"]
    trainer = fault.broken()
    first, last, bias = layer_norms(trainer)
    assert max(first, last) < 1e-6 * bias
    assert 0.1 < first / last < 10.0
    losses = trainer.run(epochs=fault.scenario.epochs).epoch_loss
    assert losses[-4:] == pytest.approx([trainer.corpus.plateaus().unigram] * 4, abs=0.06)
    first, last, bias = layer_norms(trainer)
    assert last > 1e-3 * bias
    assert first < 1e-6 * last


def test_neither_half_of_the_vanishing_gradient_makes_it_vanish_alone():
    fault = catalogue()["vanishing-gradient"]
    for other, healthy in (
        ("residual", machine().parts.residual),
        ("initialisation", given_weights),
    ):
        half = type(fault)(**{**vars(fault), "swaps": {**fault.swaps, other: healthy}})
        first, last, bias = layer_norms(half.broken(parts=TABLES["reference"]))
        assert min(first, last) > bias, other


def test_the_small_weights_are_as_small_as_announced():
    fault = catalogue()["vanishing-gradient"]
    trainer = fault.broken()
    assert trainer.announcement.endswith("standard deviation 0.005")
    for name, deviation in (
        ("layers.0.w_qkv", 0.005),
        ("layers.0.w_ff2", 0.005 / 4),
        ("token_embedding", 0.005),
    ):
        assert trainer.params[name].std() == pytest.approx(deviation, rel=0.05)
    assert (trainer.params.flat == fault.broken().params.flat).all()
    assert (trainer.params["layers.0.w_qkv"] != fault.broken(seed=1).params["layers.0.w_qkv"]).any()


@both_tables
def test_tied_gradient_dropped_lacks_the_rows_of_the_inputs(table):
    tied, sound = machine("tied-gradient-dropped", table), machine(table=table)
    assert same_forward(tied, sound)
    assert wrong_gradients(tied) == {"token_embedding"}
    missing = sound.gradients(*batch())[1]["token_embedding"] - tied.gradients(*batch())[1]["token_embedding"]
    untied = machine(table=table)
    lookup = lookup_gradient(untied)
    assert np.allclose(missing, lookup, rtol=1e-9, atol=1e-14)
    untied = machine("tied-gradient-dropped", table, tied=False)
    assert (untied.gradients(*batch())[1]["token_embedding"] == 0).all()
    assert wrong_gradients(untied) == {"token_embedding"}


def lookup_gradient(sound, rows="tokens"):
    """The rows of dx at the embedding, summed by input or by target: what the lookup adds to a tied gradient."""
    seen = {}
    healthy = sound.parts.embedding

    def recording(dx, site):
        seen["dx"] = dx.copy()
        seen["rows"] = getattr(site.run, rows)
        healthy.backward(dx, site)

    sound.swapped(embedding=type(healthy)("recording", healthy.forward, recording)).gradients(*batch())
    total = np.zeros_like(sound.params["token_embedding"])
    for row, gradient in zip(seen["rows"].ravel(), seen["dx"].reshape(-1, total.shape[1]), strict=True):
        total[row] += gradient
    return total


@both_tables
def test_tied_gradient_on_targets_stands_in_the_rows_of_the_targets(table):
    model, sound = machine("tied-gradient-on-targets", table), machine(table=table)
    assert same_forward(model, sound)
    assert wrong_gradients(model) == {"token_embedding"}
    moved = model.gradients(*batch())[1]["token_embedding"] - sound.gradients(*batch())[1]["token_embedding"]
    wanted = lookup_gradient(sound, "targets") - lookup_gradient(sound)
    assert np.allclose(moved, wanted, rtol=1e-9, atol=1e-14)


@both_tables
def test_tied_gradient_on_targets_leaves_the_other_rows_at_zero_where_it_is_untied(table):
    tokens, targets = np.array([[0, 1, 2]]), np.array([[1, 2, 3]])
    grads = machine("tied-gradient-on-targets", table, tied=False).gradients(tokens, targets)[1]
    assert set(np.flatnonzero(grads["token_embedding"].any(axis=1))) == {1, 2, 3}


@both_tables
def test_residual_missing_hangs_everything_on_the_sub_layers(table):
    model = machine("residual-missing", table)
    assert wrong_gradients(model) == set()
    without = logits_without_sub_layers(model)
    assert abs(without - without[:1, :1]).max() < 1e-12
    sound = logits_without_sub_layers(machine(table=table))
    assert abs(sound - sound[:1, :1]).max() > 1e-3


@both_tables
def test_residual_gradient_dropped_is_wrong_below_the_last_feed_forward(table):
    model = machine("residual-gradient-dropped", table)
    assert same_forward(model, machine(table=table))
    assert wrong_gradients(model) == from_tensor("layers.1.w_out")


@both_tables
def test_norm_missing_leaves_its_gains_and_biases_without_gradient(table):
    model = machine("norm-missing", table)
    norms = {name for name in model.params if name.endswith(("gamma", "beta"))}
    _, grads = model.gradients(*batch())
    assert {name for name in grads if not grads[name].any()} == norms
    assert wrong_gradients(model) == set()
    acts = model.forward(batch()[0])
    assert (acts.final_hidden == acts["layers.1"]).all()


@both_tables
def test_layer_norm_backward_term_dropped_is_right_for_the_final_norm_alone(table):
    model = machine("layer-norm-backward-term-dropped", table)
    assert same_forward(model, machine(table=table))
    assert wrong_gradients(model) == from_tensor("layers.1.w_ff2")


@pytest.fixture(scope="module")
def sound_loss():
    return final_loss(catalogue()["skipped-layers"].healthy())


def final_loss(trainer: Trainer) -> float:
    return trainer.run(epochs=4).epoch_loss[-1]


@pytest.mark.parametrize(
    "name", ["skipped-layers", "residual-missing", "residual-gradient-dropped", "norm-missing"]
)
def test_faults_that_the_loss_of_the_scenario_shows(name, sound_loss):
    bigram = catalogue()[name].scenario.corpus().plateaus().bigram
    assert sound_loss < 0.7 * bigram
    assert final_loss(catalogue()[name].broken()) > 0.95 * bigram
