"""What zero, constant and oversized weights do before and after the first steps."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from cllm_lab.faults import catalogue
from cllm_lab.faults.initialisation import CONSTANT, KINDS, TOO_LARGE, zeroed
from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import OPTIMIZERS, TrainConfig
from tests.training.machines import TABLES, TEXT, a_batch

both_tables = pytest.mark.parametrize("table", TABLES)
LN_V = math.log(TEXT.vocab_size)
ZEROS = ("zero-init", "zero-init-lattice")


def trainer(*faults, table="fast", dtype="float32", optimizer="sgd", rate=0.1, **settings) -> Trainer:
    defaults = {"vocab_size": TEXT.vocab_size, "context_length": 8, "d_model": 16, "n_heads": 2}
    model = Transformer(ModelConfig(**{**defaults, **settings}), 0, dtype, TABLES[table])
    config = TrainConfig(batch_size=2, sequence_length=8, optimizer=optimizer, learning_rate=rate)
    return Trainer(model, TEXT, config, faults)


def matrices(subject: Trainer) -> list[str]:
    return [spec.name for spec in subject.params.specs if spec.role in ("matrix", "residual")]


# Zeros.


@both_tables
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fault", ZEROS)
def test_zeros_are_a_fixed_point_of_every_optimizer(fault, optimizer, table):
    subject = trainer(fault, table=table, optimizer=optimizer)
    loss, grads = subject.gradients(*a_batch(subject))
    assert loss == LN_V
    assert not grads.flat.any()
    history = subject.run(steps=12)
    assert [record.loss for record in subject.state().records] == pytest.approx([LN_V] * 12, abs=1e-14)
    assert not history.steps.grad_norm.any()
    assert subject.params.flat.tobytes() == np.zeros_like(subject.params.flat).tobytes()


@both_tables
@pytest.mark.parametrize(
    "settings",
    [{"norm": "post"}, {"positions": "none"}, {"tied": False}, {"n_layers": 6, "activation": "gelu"}],
)
def test_zeros_are_one_whatever_the_machine(table, settings):
    subject = trainer("zero-init", table=table, **settings)
    loss, grads = subject.gradients(*a_batch(subject))
    assert loss == LN_V and not grads.flat.any()


def test_ten_thousand_rows_pin_the_loss_at_the_documents_number():
    subject = trainer("zero-init", vocab_size=10_000)
    assert f"{subject.loss(*a_batch(subject)):.4f}" == "9.2103"
    assert subject.loss(*a_batch(subject)) == math.log(10_000)


def test_taking_the_fault_out_of_a_zero_machine_does_not_help():
    broken = trainer("zero-init")
    sound = Trainer(broken.model, TEXT, broken.config)
    assert sound.run(steps=3).steps.loss.iloc[-1] == pytest.approx(LN_V, abs=1e-14)
    assert not sound.params.flat.any()


def test_the_lattice_says_that_it_initialises_and_does_not():
    silent, loud = (trainer(fault) for fault in ZEROS)
    assert silent.announcement == "" != loud.announcement
    assert "nitialisation" in loud.announcement and str(TEXT.vocab_size) in loud.announcement
    lines: list[str] = []
    loud.run(steps=5, console=lines.append)
    assert lines[0] == loud.announcement
    assert lines[1] == "Weight magnitudes: embed=0.000000, attn=0.000000, ff=0.000000"
    assert lines[2] == "Sample embedding magnitude: 0.000000"
    assert lines[3].startswith("Gradients: embed=0 (max=0.00e+00")
    silent_lines: list[str] = []
    silent.run(steps=5, console=silent_lines.append)
    assert silent_lines == lines[1:]


# Which zeros pin the loss.


def pinned(kinds: tuple[str, ...], table: str, **settings) -> bool:
    """Whether the loss is exactly ln V with no gradient; then nothing may move, otherwise something must."""
    subject = trainer(zeroed(*kinds), table=table, **settings)
    before = subject.params.flat.tobytes()
    loss, grads = subject.gradients(*a_batch(subject))
    still = loss == LN_V and not grads.flat.any()
    last = subject.run(steps=30).steps.loss.iloc[-1]
    assert still is (subject.params.flat.tobytes() == before)
    assert still is bool(abs(last - LN_V) < 1e-14)
    return still


COMBINATIONS = [kinds for n in range(1, len(KINDS) + 1) for kinds in combinations(KINDS, n)]


@pytest.mark.parametrize("kinds", COMBINATIONS)
def test_pre_norm_with_positions_is_pinned_by_the_embedding_with_gamma_or_positions(kinds):
    expected = "embedding" in kinds and ("gamma" in kinds or "positions" in kinds)
    assert pinned(kinds, "fast") is expected


@pytest.mark.parametrize("kinds", [kinds for kinds in COMBINATIONS if "positions" not in kinds])
def test_post_norm_without_positions_is_pinned_by_the_embedding_alone(kinds):
    assert pinned(kinds, "fast", norm="post", positions="none") is ("embedding" in kinds)


@pytest.mark.parametrize(
    ("kinds", "expected"), [(("gamma",), False), (("embedding",), False), (("embedding", "gamma"), True)]
)
def test_the_reference_agrees(kinds, expected):
    assert pinned(kinds, "reference") is expected


def test_gamma_zero_alone_starts_at_ln_v_and_escapes_through_the_final_norm():
    subject = trainer(zeroed("gamma"))
    loss, grads = subject.gradients(*a_batch(subject))
    assert loss == LN_V
    assert {name for name in grads if grads[name].any()} == {"ln_final.beta", "ln_final.gamma"}


def test_only_the_named_kinds_are_zeroed():
    subject, healthy = trainer(zeroed("positions", "gamma")), trainer()
    changed = {name for name in healthy.params if (subject.params[name] != healthy.params[name]).any()}
    assert changed == {name for name in healthy.params if name.endswith("gamma")} | {"position_embedding"}
    assert not any(subject.params[name].any() for name in changed)
    untied = trainer(zeroed("embedding"), tied=False)
    assert not untied.params["output_embedding"].any() and not untied.params["token_embedding"].any()


def test_beta_is_zeroed_where_it_is_not_zero():
    model = Transformer(ModelConfig(vocab_size=TEXT.vocab_size, context_length=8), 0)
    model.params.flat[:] = 1.0
    subject = Trainer(model, TEXT, TrainConfig(sequence_length=8), (zeroed("beta"),))
    zero = {name for name in subject.params if not subject.params[name].any()}
    assert zero == {name for name in subject.params if name.endswith(".beta")}


@pytest.mark.parametrize("kinds", [(), ("weights",), ("gamma", "gamma"), ("embedding", "bias")])
def test_kinds_that_do_not_exist_are_refused(kinds):
    with pytest.raises(ValueError, match="kinds must be one or more of embedding, positions, matrices"):
        zeroed(*kinds)


def test_a_control_is_no_fault_of_the_catalogue():
    assert zeroed("embedding", "gamma").id == "zeroed-embedding-gamma" not in catalogue()


# Constants.


@both_tables
@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-7), ("float64", 1e-15)])
def test_constant_matrices_have_no_gradient_but_rounding(table, dtype, rounding):
    subject = trainer("constant-init", table=table, dtype=dtype)
    _, grads = subject.gradients(*a_batch(subject))
    whole = np.linalg.norm(grads.flat)
    for name in matrices(subject):
        assert (subject.params[name] == subject.params.flat.dtype.type(CONSTANT)).all()
        assert abs(grads[name]).max() < rounding * whole, name
    for name in ("token_embedding", "position_embedding", "layers.0.b_out", "layers.1.b_ff2"):
        assert abs(grads[name]).max() > 1e-2 * whole, name


def test_constant_matrices_leave_the_embeddings_as_they_were():
    subject, healthy = trainer("constant-init"), trainer()
    assert (subject.params.group("embedding") == healthy.params.group("embedding")).all()
    assert (subject.params.group("ln") == healthy.params.group("ln")).all()


def test_sgd_leaves_constant_matrices_and_adam_amplifies_the_rounding():
    still, moved = trainer("constant-init"), trainer("constant-init", optimizer="adam", rate=1e-3)
    for subject in (still, moved):
        subject.run(epochs=2)
    assert all((still.params[name] == np.float32(CONSTANT)).all() for name in matrices(still))
    steps = moved.steps_done
    for name in matrices(moved):
        assert abs(moved.params[name] - np.float32(CONSTANT)).max() > 0.2e-3 * math.sqrt(steps), name


# Too large.


@both_tables
def test_weights_too_large_start_far_above_ln_v(table):
    fault = catalogue()["init-too-large"]
    broken, healthy = fault.broken(parts=TABLES[table]), fault.healthy(parts=TABLES[table])
    batch = healthy.corpus.tokens[:64].reshape(2, 32), healthy.corpus.tokens[1:65].reshape(2, 32)
    ln_v = math.log(healthy.corpus.vocab_size)
    assert healthy.loss(*batch) == pytest.approx(ln_v, rel=0.01)
    assert broken.loss(*batch) > 1.4 * ln_v
    sharpness = [
        trainer.forward(batch[0])["layers.0.attention.weights"][:, :, 8:].max(axis=-1).mean()
        for trainer in (healthy, broken)
    ]
    assert sharpness[0] < 0.5 and sharpness[1] > 0.95
    for name, array in healthy.params.items():
        factor = 1.0 if name.split(".")[-1] in ("gamma", "beta") or ".b_" in name else TOO_LARGE
        np.testing.assert_allclose(broken.params[name], factor * array, rtol=1e-6)
