"""Training with penalties: one loss that is followed and reported, and everything beside it as it was."""

import copy
import json
import math
import subprocess
import sys

import autograd
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cllm_lab.corpus.batches import epoch_batches
from cllm_lab.faults.gradients import embeddings_only_backward
from cllm_lab.faults.losses import loss_from_ids
from cllm_lab.lattice.token_features import token_places_of, token_primes_of
from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.config import ConfigError
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.model.parts import Part
from cllm_lab.model.transformer import Pass
from cllm_lab.training.config import PENALTIES
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.penalties import LatticePenalties, PenalisedPass
from cllm_lab.training.trainer import Trainer
from tests.oracle import cross_entropy, logits_of
from tests.training.machines import TABLES, TEXT, Fault, a_batch, batches_of, bits, make_model, make_trainer
from tests.training.test_penalties import (
    geometric_oracle,
    historical_oracle,
    prime_oracle,
    symmetry_oracle,
)

ALONE = {name: {f"{name}_penalty": 0.5} for name in PENALTIES}
TOGETHER = {
    "geometric_penalty": 0.7, "symmetry_penalty": 1.5, "prime_penalty": 2.0, "gcd_penalty": 0.3
}  # fmt: skip
WEIGHTED = {**ALONE, "together": TOGETHER}

every_weight = pytest.mark.parametrize("weights", WEIGHTED.values(), ids=WEIGHTED)
every_table = pytest.mark.parametrize("table", TABLES)


def kept_pass(trainer):
    (kept,) = trainer._passes.values()
    return kept


# One loss.


@every_table
@every_weight
@pytest.mark.parametrize("settings", [{}, {"tied": False, "norm": "post", "dropout": 0.2}], ids=str)
def test_the_followed_gradient_is_that_of_the_reported_loss(table, weights, settings):
    trainer = make_trainer(make_model(table, **settings), **weights)
    errors = gradient_check(trainer, *a_batch(trainer))
    assert list(errors) == list(trainer.params)
    assert {name: error for name, error in errors.items() if not error <= 1e-6} == {}


def with_a_slope_too_steep(self, weights, embedding, tokens, targets):
    total, ids, gradient = LatticePenalties.__dict__["as_it_is"](self, weights, embedding, tokens, targets)
    return total, ids, 1.1 * gradient


@pytest.mark.parametrize("name", [name for name in PENALTIES if name != "gcd"])
def test_the_check_sees_a_wrong_slope_of_each_in_the_embedding_and_nowhere_else(monkeypatch, name):
    monkeypatch.setattr(LatticePenalties, "as_it_is", LatticePenalties.weighted, raising=False)
    monkeypatch.setattr(LatticePenalties, "weighted", with_a_slope_too_steep)
    trainer = make_trainer(make_model("reference"), **ALONE[name])
    errors = gradient_check(trainer, *a_batch(trainer))
    assert {tensor for tensor, error in errors.items() if error > 1e-3} == {"token_embedding"}
    assert max(error for tensor, error in errors.items() if tensor != "token_embedding") < 1e-6


def total_oracle(config, weights, tokens, targets):
    """Cross-entropy and penalties of the parameters, for autograd."""
    ids = sorted({*map(int, tokens.flat), *map(int, targets.flat)})
    p, x = token_primes_of(config.vocab_size).tolist(), token_places_of(config.vocab_size)
    distances = [[math.dist(x[a], x[b]) / math.gcd(p[a], p[b]) for b in ids] for a in ids]
    likeness = [[math.gcd(p[a], p[b]) / max(p[a], p[b]) for b in ids] for a in ids]
    constant = np.mean(
        [historical_oracle(int(a), int(b)) for a, b in zip(tokens.flat, targets.flat, strict=True)]
    )

    def loss(params):
        e = params["token_embedding"][np.array(ids)]
        penalties = {
            "geometric_penalty": lambda: geometric_oracle(e, distances),
            "symmetry_penalty": lambda: symmetry_oracle(e, [p[a] % 12 for a in ids]),
            "prime_penalty": lambda: prime_oracle(e, likeness),
            "gcd_penalty": lambda: constant,
        }
        total = cross_entropy(logits_of(config, params, tokens), targets)
        return total + sum(weight * penalties[name]() for name, weight in weights.items())

    return loss


@every_table
@every_weight
def test_loss_and_gradients_are_those_of_a_second_account(table, weights):
    trainer = make_trainer(make_model(table, "float64"), **weights)
    tokens, targets = a_batch(trainer)
    params = {name: np.array(value) for name, value in trainer.params.items()}
    expected, slopes = autograd.value_and_grad(total_oracle(trainer.model.config, weights, tokens, targets))(
        params
    )
    loss, grads = trainer.gradients(tokens, targets)
    assert loss == trainer.loss(tokens, targets) == pytest.approx(float(expected), rel=1e-12)
    for name in trainer.params:
        np.testing.assert_allclose(grads[name], slopes[name], rtol=1e-8, atol=1e-12)


@every_weight
def test_only_rows_of_the_batch_get_a_gradient_from_penalties(weights):
    plain, penalised = (make_trainer(make_model("reference", tied=False), **each) for each in ({}, weights))
    batch = a_batch(plain)
    difference = penalised.gradients(*batch)[1].flat - plain.gradients(*batch)[1].flat
    place = plain.params.slices["token_embedding"]
    rows = difference[place].reshape(plain.params["token_embedding"].shape)
    outside = np.setdiff1d(np.arange(len(rows)), np.union1d(*batch))
    assert not difference[place.stop :].any()
    assert not rows[outside].any()
    assert rows.any() == (weights != ALONE["gcd"])


@every_weight
def test_a_step_reports_and_follows_it_also_by_the_compiled_pass(weights):
    trainer = make_trainer(optimizer="sgd", learning_rate=1.0, clip_norm=None, **weights)
    batch = a_batch(trainer)
    loss, grads = trainer.gradients(*batch)
    before = trainer.params.flat.copy()
    record = trainer.step(*batch)
    assert type(kept_pass(trainer)) is PenalisedPass
    assert type(kept_pass(trainer).within) is CompiledPass
    assert record.loss == pytest.approx(loss, rel=1e-6)
    assert record.grad_norm == pytest.approx(np.linalg.norm(grads.flat), rel=1e-5)
    np.testing.assert_allclose(before - trainer.params.flat, grads.flat, rtol=1e-4, atol=5e-7)
    added = sum(weights[f"{name}_penalty"] * value for name, value in values_before(weights).items())
    assert loss == pytest.approx(make_trainer().loss(*batch) + added, rel=1e-12)


def values_before(weights):
    trainer = make_trainer()
    values = trainer.penalties(*a_batch(trainer))
    return {name: values[name] for name in values if f"{name}_penalty" in weights}


@every_table
def test_each_accumulated_batch_has_its_own_penalties_by_its_tokens(table):
    trainer = make_trainer(
        make_model(table, "float64"), accumulate=5, optimizer="sgd", clip_norm=None, **TOGETHER
    )
    batches = batches_of(trainer)
    assert len({batch.targets.size for batch in batches}) > 1
    tokens = sum(batch.targets.size for batch in batches)
    looked = [
        (batch.targets.size / tokens, *trainer.gradients(batch.inputs, batch.targets)) for batch in batches
    ]
    before = trainer.params.flat.copy()
    (record,) = trainer.run(steps=1)
    assert record.loss == pytest.approx(sum(share * loss for share, loss, _ in looked), rel=1e-12)
    expected = sum(share * grads.flat for share, _, grads in looked)
    np.testing.assert_allclose(before - trainer.params.flat, 0.01 * expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}], ids=str)
@every_table
def test_steps_by_phases_are_the_steps_of_a_run_bit_for_bit(table, settings):
    by_phases, run = (make_trainer(make_model(table), **TOGETHER, **settings) for _ in range(2))
    run.run(steps=4)
    by_phases.total_steps = 4
    losses = []
    for _ in range(4):
        found = list(by_phases.phases())
        losses.append(found[1].produced["loss"])
    assert bits(by_phases) == bits(run)
    if not settings:
        assert losses == run.history.losses


@every_table
def test_the_validation_loss_is_cross_entropy_alone(table):
    plain, penalised = (
        make_trainer(make_model(table), validation_fraction=0.3, **each) for each in ({}, TOGETHER)
    )
    assert penalised.validation_loss() == plain.validation_loss()
    record = penalised.run(epochs=1)[-1]
    assert record.validation_loss == penalised.validation_loss()


def test_training_lowers_what_has_a_weight():
    for name in ("geometric", "symmetry", "prime"):
        weighted = {f"{name}_penalty": 3.0}
        plain, penalised = (make_trainer(make_model("reference"), **each) for each in ({}, weighted))
        batch = a_batch(plain)
        for trainer in (plain, penalised):
            for _ in range(60):
                trainer.step(*batch)
        assert penalised.penalties(*batch)[name] < 0.7 * plain.penalties(*batch)[name]


def test_the_historical_penalty_is_a_constant():
    """The same to the bit however the weights change, and no weight changes on account of it."""
    plain, penalised = (make_trainer(make_model("reference"), **each) for each in ({}, ALONE["gcd"]))
    batch = a_batch(plain)
    first = penalised.penalties(*batch)
    loss, grads = penalised.gradients(*batch)
    assert loss == plain.loss(*batch) + 0.5 * first["gcd"]
    np.testing.assert_array_equal(grads.flat, plain.gradients(*batch)[1].flat)
    for trainer in (plain, penalised):
        for _ in range(5):
            trainer.step(*batch)
    np.testing.assert_array_equal(penalised.params.flat, plain.params.flat)
    for one, two in zip(penalised.history, plain.history, strict=True):
        assert one.loss == two.loss + 0.5 * first["gcd"]
    last = penalised.penalties(*batch)
    assert {name for name in PENALTIES if last[name] == first[name]} == {"gcd"}


# Without a weight.


UNWEIGHTED = """
import sys
import cllm_lab as lab
corpus = lab.load_corpus("large")
model = lab.Transformer(lab.ModelConfig(vocab_size=corpus.vocab_size, d_model=8, n_heads=2, n_layers=1),
                        parts=lab.parts.reference)
before = {name for name in sys.modules if name.startswith("cllm_lab.lattice.")}
trainer = lab.Trainer(model, corpus, lab.TrainConfig(gcd_penalty=0.0, validation_fraction=0.1))
trainer.run(steps=2)
batch = [[1, 2, 3]], [[2, 3, 4]]
trainer.loss(*batch), trainer.gradients(*batch), trainer.tensor_rows(*batch), list(trainer.phases())
print(sorted({name for name in sys.modules if name.startswith("cllm_lab.lattice.")} - before))
trainer.at(trainer.steps_done + 1, prime_penalty=1.0)
trainer.run(steps=1)
print("cllm_lab.lattice.token_features" in sys.modules, "scipy" in sys.modules)
"""


def test_the_lattice_is_not_loaded_before_a_penalty_has_a_weight():
    finished = subprocess.run([sys.executable, "-c", UNWEIGHTED], capture_output=True, text=True, timeout=300)
    assert finished.stdout.splitlines() == ["[]", "True False"], finished.stderr


def test_weights_of_0_are_no_penalties_at_all():
    plain, zero = make_trainer(), make_trainer(**dict.fromkeys(TOGETHER, 0))
    for trainer in (plain, zero):
        trainer.run(steps=3)
        assert type(next(iter(trainer._passes.values()))) is CompiledPass
    assert {**bits(plain), "config": None} == {**bits(zero), "config": None}


# What they are, asked.


@every_table
def test_every_penalty_can_be_asked_for_without_its_weight(table):
    trainer, weighted = make_trainer(make_model(table)), make_trainer(make_model(table), **TOGETHER)
    trainer.run(steps=2)
    weighted.params.flat[:] = trainer.params.flat
    batch = a_batch(trainer)
    before = bits(trainer)
    values = trainer.penalties(*batch)
    assert bits(trainer) == before
    assert tuple(values) == PENALTIES
    assert weighted.penalties(*batch) == values
    for name, value in values.items():
        alone = make_trainer(make_model(table), **{f"{name}_penalty": 1.0})
        alone.params.flat[:] = trainer.params.flat
        assert alone.loss(*batch) - trainer.loss(*batch) == pytest.approx(value, rel=1e-9)
    with pytest.raises(ValueError, match="targets must have the shape of tokens"):
        trainer.penalties([[1, 2]], [[1]])


# Dimensions that cannot be turned in pairs.


ODD = {"d_model": 9, "n_heads": 3}


def test_an_odd_width_has_no_symmetry_penalty_and_the_others():
    with pytest.raises(ConfigError) as caught:
        make_trainer(make_model(**ODD), symmetry_penalty=0.5)
    said = "symmetry_penalty=0.5 turns the dimensions in pairs, so d_model must be even; got 9"
    assert str(caught.value) == said
    weights = {name: weight for name, weight in TOGETHER.items() if name != "symmetry_penalty"}
    trainer = make_trainer(make_model("reference", **ODD), **weights)
    assert max(gradient_check(trainer, *a_batch(trainer)).values()) < 1e-6
    assert tuple(trainer.penalties(*a_batch(trainer))) == ("geometric", "prime", "gcd")
    with pytest.raises(ConfigError) as caught:
        trainer.at(3, symmetry_penalty=0.5)
    assert str(caught.value) == said
    assert trainer.planned_changes == {}
    trainer.at(3, symmetry_penalty=0.0)


# Weights that are all alike, all 0, or none.


@every_table
@pytest.mark.parametrize("init", ["zeros", "constant"])
def test_a_machine_whose_rows_are_all_the_same_trains(table, init):
    trainer = make_trainer(make_model(table, init=init, positions="none"), **TOGETHER)
    batch = a_batch(trainer)
    loss, grads = trainer.gradients(*batch)
    assert math.isfinite(loss) and np.isfinite(grads.flat).all()
    assert all(math.isfinite(record.loss) for record in trainer.run(steps=3))


def test_a_window_of_one_token_that_follows_itself():
    trainer = make_trainer(make_model("reference"), **TOGETHER)
    values = trainer.penalties([[3]], [[3]])
    assert values == {"geometric": 1.0, "symmetry": pytest.approx(0, abs=1e-15), "prime": 0.0, "gcd": 0.0}
    assert math.isfinite(trainer.step([[3]], [[3]]).loss)


@every_table
def test_a_number_that_is_none_is_named_as_without_penalties(table):
    trainer = make_trainer(make_model(table), **TOGETHER)
    trainer.params["token_embedding"][:, 2] = np.nan
    before = trainer.params.flat.copy()
    with pytest.raises(NonFiniteError) as caught:
        trainer.run(steps=1)
    assert caught.value.tensor == "embedding"
    np.testing.assert_array_equal(trainer.params.flat, before)


# Faults beside them.


def negated(training_pass):
    grads = training_pass.backward()
    grads.flat *= -1.0
    return grads


def faulty(slot, part, **settings):
    return make_trainer(make_model("reference"), faults=(Fault("faulty", {slot: part}),), **settings)


def test_a_faulty_gradient_rule_acts_on_the_whole_gradient():
    healthy = make_trainer(make_model("reference"), **TOGETHER)
    batch = a_batch(healthy)
    loss, grads = healthy.gradients(*batch)
    wrong = faulty("gradient_rule", negated, **TOGETHER)
    assert wrong.gradients(*batch)[0] == loss
    np.testing.assert_array_equal(wrong.gradients(*batch)[1].flat, -grads.flat)
    assert min(gradient_check(wrong, *batch).values()) > 1.9
    embedding = faulty("gradient_rule", embeddings_only_backward, **TOGETHER).gradients(*batch)[1]
    np.testing.assert_array_equal(embedding.group("embedding"), grads.group("embedding"))
    assert not embedding.group("ff").any()
    wrong.step(*batch)
    assert type(kept_pass(wrong).within) is Pass
    assert wrong.loss(*batch) > loss


def test_a_faulty_reported_loss_is_given_the_whole_loss():
    healthy = make_trainer(make_model("reference"), **TOGETHER)
    tenth = faulty("reported_loss", lambda loss, training_pass: loss / 10, **TOGETHER)
    assert tenth.run(epochs=1).losses == [loss / 10 for loss in healthy.run(epochs=1).losses]
    np.testing.assert_array_equal(tenth.params.flat, healthy.params.flat)


def test_a_reported_loss_that_reads_the_pass_can():
    from_ids = faulty("reported_loss", loss_from_ids, **TOGETHER)
    batch = a_batch(from_ids)
    expected = pytest.approx(from_ids.penalties(*batch)["gcd"], rel=1e-12)
    assert from_ids.loss(*batch) == expected
    assert from_ids.step(*batch).loss == from_ids.step(*batch).loss == expected


def test_a_fault_of_the_model_spoils_its_own_part_of_the_gradient_alone():
    def backward(site):
        dlogits, dhidden = make_model("reference").parts.loss.backward(site)
        return -dlogits, dhidden

    forward = make_model("reference").parts.loss.forward
    wrong = faulty("loss", Part("wrong", forward, backward), **ALONE["prime"])
    batch = a_batch(wrong)
    plain = make_trainer(make_model("reference")).gradients(*batch)[1].flat
    penalty = make_trainer(make_model("reference"), **ALONE["prime"]).gradients(*batch)[1].flat - plain
    np.testing.assert_allclose(wrong.gradients(*batch)[1].flat, penalty - plain, rtol=1e-5, atol=1e-7)


# Weights that change on the way.


@every_table
def test_a_planned_weight_is_the_live_weight_and_a_weight_can_go(table):
    planned, live = make_trainer(make_model(table)), make_trainer(make_model(table))
    planned.at(3, **TOGETHER)
    planned.at(5, **dict.fromkeys(TOGETHER, 0.0))
    planned.run(steps=6)
    live.run(steps=2)
    live.at(3, **TOGETHER)
    live.run(steps=2)
    live.at(5, **dict.fromkeys(TOGETHER, 0.0))
    live.run(steps=2)
    assert bits(planned) == bits(live)
    assert not any(isinstance(kept, PenalisedPass) for kept in planned._passes.values())


def test_a_weight_acts_from_its_step_on_and_moments_stay():
    model = make_model("reference", "float64")
    plain, changed = (make_trainer(model, clip_norm=None, optimizer="momentum") for _ in range(2))
    changed.at(3, prime_penalty=4.0)
    for trainer in (plain, changed):
        trainer.run(steps=2)
    assert {**bits(plain), "changes": None} == {**bits(changed), "changes": None}
    batch = a_batch(plain)
    weighted = make_trainer(model, prime_penalty=4.0)
    weighted.params.flat[:] = plain.params.flat
    loss, grads = weighted.gradients(*batch)
    (before,) = (moment.flat.copy() for moment in changed.moments.values())
    assert changed.step(*batch).loss == pytest.approx(loss, rel=1e-14)
    assert plain.step(*batch).loss < loss - 0.1
    (after,) = (moment.flat for moment in changed.moments.values())
    np.testing.assert_allclose(after, 0.9 * before + grads.flat, rtol=1e-12, atol=1e-15)
    assert changed.moments_since == 0
    assert np.linalg.norm(before) > 0.0


def test_a_state_brings_its_weights_along():
    trainer, other = make_trainer(), make_trainer()
    trainer.at(2, **TOGETHER)
    trainer.run(steps=3)
    other.load_state(trainer.state())
    assert bits(other) == bits(trainer)
    batch = a_batch(trainer)
    assert other.loss(*batch) == trainer.loss(*batch)
    for each in (trainer, other):
        each.step(*batch)
    assert bits(other) == bits(trainer)


def test_rows_of_a_step_that_would_change_the_weights_leave_the_trainer():
    trainer = make_trainer()
    trainer.at(1, prime_penalty=1.0)
    before, batch = bits(trainer), a_batch(trainer)
    loss = trainer.loss(*batch)
    trainer.tensor_rows(*batch)
    assert bits(trainer) == before
    assert trainer.loss(*batch) == loss


# Checkpoints.


@every_table
@pytest.mark.parametrize("stop_at", [2, 4])
def test_a_resumed_run_is_to_the_bit_the_one_never_stopped(tmp_path, table, stop_at):
    path = tmp_path / "run.safetensors"
    straight, stopped = (make_trainer(make_model(table), **TOGETHER) for _ in range(2))
    for trainer in (straight, stopped):
        trainer.at(4, geometric_penalty=0.0, prime_penalty=0.25)
        trainer.total_steps = 6
    for _ in range(stop_at):
        next(stopped.steps())
    stopped.save(path)
    resumed = Trainer.load(path, TEXT)
    assert resumed.config == stopped.config
    for _ in range(6 - stop_at):
        next(resumed.steps())
    for _ in range(6):
        next(straight.steps())
    assert bits(resumed) == bits(straight)


def test_a_checkpoint_of_before_there_were_penalties_loads(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = make_trainer()
    trainer.run(steps=2)
    trainer.save(path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        metadata = json.loads(file.metadata()["cllm_lab"])
    for name in PENALTIES:
        assert metadata["train"].pop(f"{name}_penalty") == 0.0
    save_file(arrays, path, {"cllm_lab": json.dumps(metadata)})
    assert bits(Trainer.load(path, TEXT)) == bits(trainer)


# The twin that the gradient check asks for.


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "optimizer": "momentum"}], ids=str)
def test_a_twin_of_another_precision_stands_where_the_trainer_does(settings, tmp_path):
    log = tmp_path / "log.jsonl"
    trainer = make_trainer(make_model(dropout=0.1), log=log, faults=(SHORT,), **TOGETHER, **settings)
    trainer.at(9, learning_rate=0.5)
    trainer.run(steps=3)
    before, written = bits(trainer), log.read_text()
    wide = trainer.astype("float64")
    assert wide.params.flat.dtype == np.float64
    assert {**bits(wide), "arrays": None} == {**before, "arrays": None}
    np.testing.assert_array_equal(wide.params.flat, trainer.params.flat)
    again = wide.astype("float32")
    assert bits(again) == before
    for each in (again, wide):
        each.run(steps=2)
    assert (bits(trainer), log.read_text()) == (before, written)
    trainer.run(steps=2)
    assert bits(again) == bits(trainer)
    np.testing.assert_allclose(wide.params.flat, trainer.params.flat, atol=1e-3)
    with pytest.raises(ValueError, match="dtype must be one of"):
        trainer.astype("float16")


SHORT = Fault("short", {"clipping": lambda norm, clip_norm: 0.5})


def backwards(tokens, batch_size, sequence_length, shuffle, seed, epoch):
    return epoch_batches(tokens, batch_size, sequence_length, shuffle, seed, epoch)[::-1]


def test_a_twin_goes_on_in_the_order_of_faulty_batches():
    faults = (
        Fault("backwards", {"batches": backwards, "initialisation": lambda params, config, seed: "said"}),
    )
    trainer = make_trainer(make_model("reference"), faults=faults)
    trainer.run(steps=2)
    twin = trainer.astype("float32")
    assert twin.announcement == trainer.announcement == "said"
    for each in (trainer, twin):
        each.run(steps=2)
    assert bits(twin) == bits(trainer)


def test_the_check_leaves_a_trainer_as_it_was():
    trainer = make_trainer(make_model(dropout=0.2), **TOGETHER)
    trainer.run(steps=3)
    before = bits(trainer)
    first = gradient_check(trainer, *a_batch(trainer))
    assert bits(trainer) == before
    assert gradient_check(trainer, *a_batch(trainer)) == first
    undisturbed = make_trainer(make_model(dropout=0.2), **TOGETHER)
    undisturbed.run(steps=3)
    for each in (trainer, undisturbed):
        each.run(steps=2)
    assert bits(trainer) == bits(undisturbed)


def test_a_penalised_pass_can_be_copied():
    trainer = make_trainer(geometric_penalty=1.0)
    trainer.step(*a_batch(trainer))
    (kept,) = trainer._passes.values()
    assert copy.copy(kept).within is kept.within
