"""Queries, keys and values apart: the same machine, the same answers, three names for one tensor."""

import copy

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.qkv_thirds import qkv_thirds
from cllm_lab.clinic.subject import keeps_state
from tests.clinic.subjects import batch_for, trainer
from tests.training.machines import bits

THIRDS = ("queries", "keys", "values")


def test_the_pieces_are_the_columns_in_their_order() -> None:
    subject = trainer(n_layers=2)
    thirds = qkv_thirds(subject)
    for name in ("layers.0.w_qkv", "layers.1.w_qkv", "layers.0.b_qkv", "layers.1.b_qkv"):
        pieces = [thirds.params[f"{name}.{third}"] for third in THIRDS]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=-1), subject.params[name])
        assert name not in thirds.params
    kept = [name for name in subject.params if not name.endswith("_qkv")]
    assert [name for name in thirds.params if "_qkv." not in name] == kept
    assert len(thirds.params) == len(subject.params) + 2 * 4


def test_writing_into_a_piece_changes_the_machine() -> None:
    subject = trainer()
    batch = batch_for(subject)
    before = subject.loss(*batch)
    thirds = qkv_thirds(subject)
    thirds.params["layers.0.w_qkv.values"][...] = 0.0
    C = subject.params["layers.0.w_qkv"].shape[0]
    assert not subject.params["layers.0.w_qkv"][:, 2 * C :].any()
    assert subject.params["layers.0.w_qkv"][:, : 2 * C].all()
    assert thirds.loss(*batch) == subject.loss(*batch) != before


def test_gradients_are_the_subjects() -> None:
    subject = trainer()
    batch = batch_for(subject)
    loss, grads = qkv_thirds(subject).gradients(*batch)
    own_loss, own = subject.gradients(*batch)
    assert loss == own_loss
    joined = np.concatenate([grads[f"layers.0.w_qkv.{third}"] for third in THIRDS], axis=-1)
    np.testing.assert_array_equal(joined, own["layers.0.w_qkv"])


def test_every_probe_takes_it_and_leaves_it_as_it_was() -> None:
    subject, reference = trainer(), trainer()
    batch = batch_for(subject)
    before = bits(subject)
    thirds = qkv_thirds(subject)
    assert keeps_state(thirds)
    fingerprint = lab.gradient_fingerprint(thirds, *batch)
    assert fingerprint.passed and fingerprint.kinds["layers.0.b_qkv.keys"] == "no effect"
    cosines = lab.gradient_cosine(thirds, qkv_thirds(reference), *batch).tensors
    assert all(cosines[f"layers.0.w_qkv.{third}"] == pytest.approx(1.0) for third in THIRDS)
    assert lab.update_statistics(thirds, *batch).steps == 1
    assert bits(subject) == before


def test_it_tells_which_third_is_wrong() -> None:
    fault = lab.faults.catalogue()["query-zero"]
    subject = fault.broken(dtype="float64", parts=lab.parts.reference)
    kinds = lab.gradient_fingerprint(qkv_thirds(subject), *batch_for(subject)).kinds
    w = {third: kinds[f"layers.0.w_qkv.{third}"] for third in THIRDS}
    assert w == {"queries": "no effect", "keys": "no effect", "values": "agrees"}


def test_it_can_be_copied() -> None:
    thirds = qkv_thirds(trainer())
    twin = copy.copy(thirds)
    assert twin.params["layers.0.w_qkv.keys"] is not None
    assert np.may_share_memory(twin.params["layers.0.w_qkv.keys"], thirds.params["layers.0.w_qkv.keys"])


class NotDivisible:
    """A subject with a w_qkv that is no three matrices side by side."""

    def __init__(self, name: str = "w_qkv") -> None:
        self.params = {name: np.ones((4, 7))}

    def loss(self, inputs, targets):
        return 0.0

    gradients = forward = step = loss


def test_halves_are_no_thirds_even_where_three_divides_them() -> None:
    config = lab.ModelConfig(vocab_size=8, d_model=12, n_heads=2, keys="shared")
    subject = lab.Trainer(lab.Transformer(config), lab.MarkovLanguage(n_symbols=8))
    with pytest.raises(ValueError, match=r"three equal parts.*\(12, 24\)"):
        qkv_thirds(subject)


def test_what_has_no_thirds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"w_qkv must end in a dimension of three equal parts.*\(4, 7\)"):
        qkv_thirds(NotDivisible())
    with pytest.raises(ValueError, match="no tensor w_qkv; it has queries"):
        qkv_thirds(NotDivisible("queries"))
    with pytest.raises(TypeError, match="lacks params"):
        qkv_thirds(object())


def test_it_is_on_the_facade() -> None:
    assert lab.qkv_thirds is qkv_thirds
