"""This library against PyTorch: activations, losses, gradients, and ten training steps."""

import importlib.metadata
import json

import numpy as np
import pytest

from cllm_lab.model.transformer import Transformer
from tests.model.configurations import PLAIN_CASES, TABLES
from tests.parity.record import record
from tests.parity.torch_twin import TorchTwin
from tests.parity.torch_twin import train as train_torch
from tests.ten_steps import FIXTURE, N_STEPS, RUNS, comparable, train

# Relative to the size of what is compared: the Euclidean norm of a tensor, the value of a loss.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = tuple(TOLERANCE)

# What PyTorch's fused attention does not show, and what it has no use for.
UNSEEN = ("scores", "weights", "input", "normalised", "rstd", "mask", "gate", "probabilities")


def distance(ours, theirs):
    """Euclidean distance, relative to the norm of PyTorch's."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


# From the initial weights, but for those that leave all units alike; and from a point where nothing is special.
POINTS = [
    (case, point)
    for case in PLAIN_CASES
    for point in ("initial", "random")
    if point == "random" or case.config.init not in ("zeros", "constant")
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("case", "point"), POINTS, ids=lambda value: getattr(value, "name", value))
def test_activations_loss_and_gradients(case, point, table, dtype):
    model = case.model(table, dtype)
    if point == "initial":
        model = Transformer(case.config, seed=1, dtype=dtype, parts=TABLES[table])
    tokens, targets = case.tokens_and_targets()
    activations = model.forward(tokens, case.dropout_seed)
    masks = {name.removesuffix(".mask"): activations[name] for name in activations if name.endswith(".mask")}
    twin = TorchTwin(case.config, model.params, masks)
    expected_loss, expected_grads = twin.gradients(tokens, targets)
    loss, grads = model.gradients(tokens, targets, case.dropout_seed)
    tolerance = TOLERANCE[dtype]
    assert abs(loss - expected_loss) <= tolerance * expected_loss
    visible = [name for name in activations if name.rpartition(".")[2] not in UNSEEN]
    assert visible == list(twin.activations)
    far = {name: distance(activations[name], twin.activations[name].detach().numpy()) for name in visible}
    assert {name: error for name, error in far.items() if not error <= tolerance} == {}
    far = {name: distance(grads[name], expected_grads[name]) for name in expected_grads}
    assert {name: error for name, error in far.items() if not error <= tolerance} == {}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_ten_training_steps(run, table, dtype):
    ours, theirs = train(run, table, dtype), train_torch(run, dtype)
    assert len(ours.losses) == N_STEPS
    tolerance = TOLERANCE[dtype]
    assert ours.losses == pytest.approx(theirs.losses, rel=tolerance)
    assert ours.grad_norms == pytest.approx(theirs.grad_norms, rel=tolerance)
    assert list(ours.params) == list(theirs.params)
    far = {n: distance(comparable(n, ours.params[n]), comparable(n, theirs.params[n])) for n in theirs.params}
    assert {name: error for name, error in far.items() if not error <= tolerance} == {}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_what_is_left_out_of_the_comparison_has_no_gradient(run):
    """The key biases: both libraries give them nothing but rounding."""
    model = run.model("fast", "float64")
    tokens, targets = run.batches()[0]
    _, expected = TorchTwin(run.model_config, model.params).gradients(tokens, targets)
    _, grads = model.gradients(tokens, targets)
    for source in (grads, expected):
        for name in source:
            if name.endswith("b_qkv"):
                queries, keys, values = np.split(source[name], 3)
                assert np.abs(keys).max() < 1e-14 * np.abs(values).max()
                assert np.abs(queries).max() > 1e-6 * np.abs(values).max()


def test_clipping_acts_on_some_steps_and_not_on_others():
    bounds = [
        (run.train_config.clip_norm, norm)
        for run in RUNS
        for norm in train(run, "fast", "float64").grad_norms
    ]
    acted = [bound is not None and norm > bound for bound, norm in bounds]
    assert any(acted)
    assert not all(acted)


def test_training_moves_every_tensor():
    """Ten equal losses, or a tensor that stands still, would be compared in vain."""
    for run in RUNS:
        before, after = run.model("fast", "float64").params, train(run, "fast", "float64").params
        assert [name for name in before if np.array_equal(before[name], after[name])] == []


def test_the_recorded_fixture_is_what_this_pytorch_gives():
    """Where this is red for a good reason, `python -m tests.parity.record` records it anew."""
    recorded = json.loads(FIXTURE.read_text(encoding="utf-8"))
    fresh = json.loads(json.dumps(record()))
    assert recorded["torch"].split("+")[0] == importlib.metadata.version("torch").split("+")[0]
    for old, new in zip(recorded["runs"], fresh["runs"], strict=True):
        for key in ("name", "seed", "model", "train", "batches"):
            assert old[key] == new[key]
        assert old["losses"] == pytest.approx(new["losses"], rel=1e-12)
        assert old["grad_norms"] == pytest.approx(new["grad_norms"], rel=1e-12)
        assert list(old["tensors"]) == list(new["tensors"])
        for name, (total, norm) in new["tensors"].items():
            assert old["tensors"][name] == pytest.approx([total, norm], rel=1e-12, abs=1e-12 * norm)
