"""What is joined to what, and that a swapped part changes nothing before itself."""

from dataclasses import replace

import numpy as np
import pytest

from cllm_lab.model.parts import Part
from cllm_lab.model.parts.wiring import no_attention_forward
from tests.model.configurations import TABLES, by_name
from tests.model.planted_faults import FAULTY, PLANTED, faulty_model


def forward(case, table):
    return case.model(table).forward(case.tokens_and_targets()[0])


@pytest.mark.parametrize("table", TABLES)
def test_a_pre_norm_block_adds_each_branch_to_what_its_norm_read(table):
    acts = forward(by_name("default"), table)
    stream = acts["positions"]
    for i in ("layers.0.", "layers.1."):
        assert np.array_equal(acts[i + "attention.input"], acts[i + "ln1"])
        assert np.array_equal(acts[i + "residual1"], stream + acts[i + "attention"])
        assert np.array_equal(acts[i + "ff.input"], acts[i + "ln2"])
        assert np.array_equal(acts[i + "residual2"], acts[i + "residual1"] + acts[i + "ff"])
        stream = acts[i + "residual2"]
        assert np.array_equal(acts[i.rstrip(".")], stream)
    assert not np.array_equal(acts.final_hidden, stream)
    assert np.array_equal(acts["logits.input"], acts.final_hidden)


@pytest.mark.parametrize("table", TABLES)
def test_a_post_norm_block_norms_each_sum_and_there_is_no_final_norm(table):
    acts = forward(by_name("post-norm"), table)
    stream = acts["positions"]
    for i in ("layers.0.", "layers.1."):
        assert np.array_equal(acts[i + "attention.input"], stream)
        assert np.array_equal(acts[i + "residual1"], stream + acts[i + "attention"])
        assert np.array_equal(acts[i + "ff.input"], acts[i + "ln1"])
        assert np.array_equal(acts[i + "residual2"], acts[i + "ln1"] + acts[i + "ff"])
        stream = acts[i + "ln2"]
        assert np.array_equal(acts[i.rstrip(".")], stream)
    assert np.array_equal(acts.final_hidden, stream)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["no-attention", "post-no-attention-sinusoidal"])
def test_without_attention_the_feed_forward_branch_is_all_there_is(name, table):
    acts = forward(by_name(name), table)
    before = acts["positions"]
    for i in ("layers.0", "layers.1"):
        source = acts[f"{i}.ln2"] if name == "no-attention" else before
        assert np.array_equal(acts[f"{i}.ff.input"], source)
        assert np.array_equal(acts[f"{i}.residual2"], before + acts[f"{i}.ff"])
        before = acts[i]


@pytest.mark.parametrize("table", TABLES)
def test_the_attention_part_that_is_none_is_never_called(table):
    case = by_name("no-attention")
    model = case.model(table)
    assert model.parts.attention.forward is no_attention_forward
    model.gradients(*case.tokens_and_targets())
    with pytest.raises(RuntimeError, match="attention='none' leaves the sub-layer out"):
        no_attention_forward(np.zeros((1, 1, 8)), None)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("slot", "first_changed", "last_unchanged"),
    [
        ("activation", "layers.0.ff.hidden", "layers.0.ff.pre"),
        ("scores", "layers.0.attention.scores", "layers.0.attention.v"),
        ("embedding", "embedding", None),
        ("output", "logits", "logits.input"),
        ("w_out", "layers.0.attention", "layers.0.attention.mixed"),
    ],
)
def test_every_activation_before_a_swapped_part_keeps_its_bits(slot, first_changed, last_unchanged, table):
    case = by_name("default")
    model = case.model(table)
    tokens, _ = case.tokens_and_targets()
    healthy = getattr(model.parts, slot)

    def tripled(x, site):
        y = healthy.forward(x, site)
        y *= 3.0
        return y

    before, after = (
        model.forward(tokens),
        model.swapped(**{slot: replace(healthy, forward=tripled)}).forward(tokens),
    )
    assert after.names() == before.names()
    names = before.names()
    changed = [not np.array_equal(before[name], after[name]) for name in names]
    place = names.index(first_changed)
    assert changed.index(True) == place
    assert (names[place - 1] if place else None) == last_unchanged
    assert changed[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_in_a_backward_pass_leaves_the_forward_pass_and_what_came_back_before_it(
    name, table, dtype
):
    healthy, faulty = FAULTY.model(table, dtype), faulty_model(name, table, dtype)
    batch = (*FAULTY.tokens_and_targets(), FAULTY.dropout_seed)
    loss, grads = healthy.gradients(*batch)
    faulty_loss, faulty_grads = faulty.gradients(*batch)
    assert faulty_loss == loss
    before, after = healthy.forward(batch[0], batch[2]), faulty.forward(batch[0], batch[2])
    assert [key for key in before if not np.array_equal(before[key], after[key])] == []
    spoiled = [key for key in grads if not np.array_equal(grads[key], faulty_grads[key])]
    assert spoiled == [key for key in grads if PLANTED[name].spoiled(key)]


@pytest.mark.parametrize("table", TABLES)
def test_a_loss_may_act_on_the_final_hidden_state_alone_or_besides(table):
    """The gradients of the two ways in add up, and either may be left out."""
    case = by_name("default")
    model = case.model(table)
    batch = case.tokens_and_targets()
    extra = np.random.default_rng(0).normal(size=(case.batch, case.length, case.config.d_model))

    def gradients(with_logits, with_hidden):
        def backward(site):
            dlogits, _ = model.parts.loss.backward(site)
            return dlogits if with_logits else None, extra if with_hidden else None

        return (
            model.swapped(loss=Part("planted", model.parts.loss.forward, backward)).gradients(*batch)[1].flat
        )

    logits_alone, hidden_alone = gradients(True, False), gradients(False, True)
    assert np.array_equal(logits_alone, model.gradients(*batch)[1].flat)
    assert np.abs(hidden_alone).max() > 0.1
    assert np.allclose(gradients(True, True), logits_alone + hidden_alone, rtol=1e-11, atol=1e-13)
    assert not gradients(False, False).any()
