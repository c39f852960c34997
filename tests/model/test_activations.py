import numpy as np
import pytest

from cllm_lab.model.activations import GradientSink, Run, Site
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.parameters import Parameters
from cllm_lab.model.transformer import Pass, Transformer
from tests.model.configurations import CASES, TABLES, by_name

SMALL = ModelConfig(vocab_size=5, context_length=3, d_model=4, n_heads=2, n_layers=1, d_ff=6)


def dirty_sink():
    """A sink over a buffer that still holds the gradients of an earlier pass."""
    grads = Parameters.zeros(SMALL, "float64")
    grads.flat[:] = 99.0
    sink = GradientSink(grads)
    sink.begin()
    return sink


def test_contributions_add_up_and_nothing_of_an_earlier_pass_remains():
    sink = dirty_sink()
    sink.add("layers.0.b_ff1", np.full(6, 2.0))
    sink.add("layers.0.b_ff1", np.full(6, 3.0))
    grads = sink.finish()
    assert (grads["layers.0.b_ff1"] == 5.0).all()
    assert np.abs(grads.flat).sum() == 30.0


@pytest.mark.parametrize("order", ["product first", "product last", "accumulator first", "accumulator last"])
def test_the_ways_of_adding_agree_in_any_order(order):
    rng = np.random.default_rng(0)
    a, b, value = rng.normal(size=(4, 7)), rng.normal(size=(7, 6)), rng.normal(size=(4, 6))
    sink = dirty_sink()

    def product():
        sink.add_product("layers.0.w_ff1", a, b)

    def accumulator():
        sink.accumulator("layers.0.w_ff1")[1:3] += value[1:3]

    def plain():
        sink.add("layers.0.w_ff1", value)

    first, _, place = order.partition(" ")
    chosen = product if first == "product" else accumulator
    for step in (chosen, plain) if place == "first" else (plain, chosen):
        step()
    rows = np.array([[0.0], [1.0], [1.0], [0.0]])
    expected = value + (a @ b if first == "product" else value * rows)
    assert np.allclose(sink.finish()["layers.0.w_ff1"], expected, rtol=1e-14, atol=0)


def test_a_product_after_a_product_is_added():
    a, b = np.ones((4, 2)), np.ones((2, 6))
    sink = dirty_sink()
    sink.add_product("layers.0.w_ff1", a, b)
    sink.add_product("layers.0.w_ff1", a, b)
    assert (sink.finish()["layers.0.w_ff1"] == 4.0).all()


def test_begin_forgets_the_last_pass():
    sink = dirty_sink()
    sink.add("layers.0.b_out", np.ones(4))
    sink.finish()
    sink.begin()
    sink.add("layers.0.b_out", np.ones(4))
    assert (sink.finish()["layers.0.b_out"] == 1.0).all()


def test_a_tensor_that_nothing_was_added_to_is_exactly_zero():
    assert not dirty_sink().finish().flat.any()


def test_a_gradient_of_another_shape_is_refused_by_name():
    text = r"the gradient of layers.0.b_out must have shape \(4,\); got \(1, 4\)"
    with pytest.raises(ValueError, match=text):
        dirty_sink().add("layers.0.b_out", np.ones((1, 4)))


def root_site(sink=None):
    params = Parameters.zeros(SMALL, "float32")
    model = Transformer(SMALL, parts=TABLES["reference"])
    return Site("", "", params, Run(SMALL, model.parts, model.dtype), sink)


def test_a_site_finds_the_tensors_of_the_nearest_scope_that_has_any():
    root = root_site()
    layer = root.child("layers.0")
    assert set(layer.child("ln1").params) == {"gamma", "beta"}
    assert layer.child("attention").params["w_qkv"] is layer.params["w_qkv"]
    assert layer.child("attention").full("w_qkv") == "layers.0.w_qkv"
    assert layer.child("ln1").full("gamma") == "layers.0.ln1.gamma"
    assert root.child("embedding").full("token_embedding") == "token_embedding"
    assert set(root.child("final_hidden", "ln_final").params) == {"gamma", "beta"}


def test_a_child_is_made_once():
    root = root_site()
    assert root.child("embedding") is root.child("embedding")
    assert root.child("layers.0").child("ff").name == "layers.0.ff"


def test_a_buffer_is_kept_while_its_shape_lasts():
    site = root_site().child("embedding")
    first = site.buffer("output", (2, 3))
    assert first.dtype == np.float32
    assert site.buffer("output", (2, 3)) is first
    assert site.saved["output"] is first
    assert site.buffer("output", (2, 4)).shape == (2, 4)
    assert site.scratch("draws", (2,), np.float64).dtype == np.float64
    assert "draws" not in site.saved


def test_gradients_need_a_sink():
    site = root_site().child("embedding")
    for add in (
        lambda: site.add_gradient("token_embedding", np.zeros((5, 4))),
        lambda: site.add_gradient_product("token_embedding", np.zeros((5, 1)), np.zeros((1, 4))),
        lambda: site.gradient_accumulator("token_embedding"),
    ):
        with pytest.raises(RuntimeError, match="forward pass alone and has nowhere to put gradients"):
            add()


def test_a_pass_without_a_sink_says_so():
    model = Transformer(SMALL, parts=TABLES["reference"])
    tokens = np.zeros((1, 2), np.int32)
    forward_only = Pass(model)
    forward_only.forward(tokens)
    forward_only.loss(tokens)
    with pytest.raises(RuntimeError, match="without a sink for gradients"):
        forward_only.backward()


ATTENTION = ["input", "qkv", "q", "k", "v", "scores", "weights", "mixed"]
NORM = ["normalised", "rstd"]


def expected_names(layer_count, mask=False):
    """The order of computation of a pre-norm machine with learned positions and tanh."""
    names = ["embedding", "positions"] + ["dropout.mask"] * mask
    for i in range(layer_count):
        at = f"layers.{i}."
        names += [f"{at}ln1.{saved}" for saved in NORM] + [f"{at}ln1"]
        names += [f"{at}attention.{saved}" for saved in ATTENTION] + [f"{at}attention"]
        names += [f"{at}dropout1.mask"] * mask + [f"{at}residual1"]
        names += [f"{at}ln2.{saved}" for saved in NORM] + [f"{at}ln2"]
        names += [f"{at}ff.{saved}" for saved in ("input", "pre", "hidden")] + [f"{at}ff"]
        names += [f"{at}dropout2.mask"] * mask + [f"{at}residual2", f"layers.{i}"]
    return [*names, *(f"final_hidden.{saved}" for saved in NORM), "final_hidden", "logits.input", "logits"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("name", "mask"), [("default", False), ("three-layers", False), ("dropout", True)])
def test_every_intermediate_has_its_name_in_the_order_of_computation(table, name, mask):
    case = by_name(name)
    activations = case.model(table).forward(case.tokens_and_targets()[0], case.dropout_seed)
    assert activations.names() == expected_names(case.config.n_layers, mask)
    assert list(activations) == activations.names()
    assert len(activations) == len(activations.names())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shapes(case):
    config = case.config
    B, T, C, F, V = case.batch, case.length, config.d_model, config.width_ff, config.vocab_size
    H, D = config.n_heads, config.d_head
    activations = case.model().forward(case.tokens_and_targets()[0])
    assert activations.logits.shape == (B, T, V)
    assert activations.final_hidden.shape == (B, T, C)
    for i in range(config.n_layers):
        assert activations[f"layers.{i}"].shape == (B, T, C)
        assert activations[f"layers.{i}.ff.hidden"].shape == (B, T, F)
        if config.attention != "none":
            assert activations[f"layers.{i}.attention.q"].shape == (B, H, T, D)
            assert activations[f"layers.{i}.attention.weights"].shape == (B, H, T, T)


def test_without_attention_its_names_are_gone():
    case = by_name("no-attention")
    names = case.model().forward(case.tokens_and_targets()[0]).names()
    assert not [name for name in names if "attention" in name or "ln1" in name or "residual1" in name]


def test_short_cuts_and_errors():
    case = by_name("default")
    activations = case.model().forward(case.tokens_and_targets()[0])
    assert activations.logits is activations["logits"]
    assert activations.final_hidden is activations["final_hidden"]
    assert "(2, 5, 11)" in repr(activations)
    with pytest.raises(KeyError) as caught:
        activations["layers.0.atention"]
    assert "no activation 'layers.0.atention'" in str(caught.value)
    assert "layers.0.attention.weights" in str(caught.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loss_and_backward_leave_every_activation_as_it_was(table, case):
    model = case.model(table)
    tokens, targets = (ids.astype(np.int32) for ids in case.tokens_and_targets())
    full = Pass(model, GradientSink(model.params.like()))
    full.forward(tokens, np.random.default_rng(0))
    before = {name: array.copy() for name, array in full.activations().items()}
    full.loss(targets)
    full.backward()
    after = full.activations()
    assert [name for name in after if name not in before] == ["loss.probabilities"]
    for name, array in before.items():
        assert np.array_equal(array, after[name]), name
