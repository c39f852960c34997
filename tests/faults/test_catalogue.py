"""What holds for every fault of the catalogue, whatever it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import cllm_lab
from cllm_lab.corpus.corpora import Corpus
from cllm_lab.faults import catalogue
from cllm_lab.faults.catalogue import resolve
from cllm_lab.faults.fault import TAKES_EFFECT, Fault, Scenario
from cllm_lab.faults.trainer import Trainer
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.gradient_check import random_point
from cllm_lab.model.parts import SLOTS
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.diagnostics import NonFiniteError
from cllm_lab.training.parts import TRAINING_SLOTS, sort_swaps
from tests.faults.evidence import TABLES, tensor_names

IDS = tuple(catalogue())
DROPOUT_SEED = 5
WORDS = "the Sky is blue and A small red Bird sings over green hills".split()
TEXT = Corpus.from_text(" ".join(np.random.default_rng(3).choice(WORDS, 61).tolist()))

each_fault = pytest.mark.parametrize("name", IDS)
both_tables = pytest.mark.parametrize("table", TABLES)


def trainer(*faults: str | Fault, table: str = "reference") -> Trainer:
    """A small float64 trainer at a random point, unless a fault draws the weights itself."""
    config = ModelConfig(
        vocab_size=TEXT.vocab_size, context_length=8, d_model=8, n_heads=2, n_layers=2, d_ff=12, dropout=0.1
    )
    model = Transformer(config, 1, "float64", TABLES[table])
    model.params.flat[:] = random_point(model.params, seed=2).flat
    return Trainer(model, TEXT, TrainConfig(batch_size=2, sequence_length=8), faults)


def batch() -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(7).integers(0, TEXT.vocab_size, (2, 2, 8))
    return ids[0], ids[1]


# What it says of itself.


def test_the_documented_faults_of_attention_and_wiring_are_there():
    documented = {
        "doubled-attention",
        "attention-backward-missing",
        "attention-backward-outer",
        "signed-exp-softmax",
        "strided-heads",
        "no-causal-mask",
        "skipped-layers",
        "vanishing-gradient",
        "tied-gradient-dropped",
        "tied-gradient-on-targets",
    }
    assert documented <= set(IDS)


def test_no_two_faults_share_an_id():
    from cllm_lab.faults.catalogue import _ROOMS

    declared = [fault.id for room in _ROOMS for fault in room.FAULTS]
    assert declared == list(IDS)


def test_the_catalogue_cannot_be_changed():
    with pytest.raises(TypeError):
        catalogue()["new"] = None


@each_fault
def test_every_field_is_filled(name):
    fault = catalogue()[name]
    assert fault.id == name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    for field in ("title", "source", "symptom", "signature", "remedy"):
        text = getattr(fault, field)
        assert isinstance(text, str) and text == text.strip() != "", field
    assert fault.swaps
    assert set(fault.swaps) <= {*SLOTS, *TRAINING_SLOTS}
    assert fault.takes_effect in TAKES_EFFECT
    assert isinstance(fault.scenario, Scenario) and fault.scenario.epochs >= 1


@each_fault
def test_the_difference_shows_the_fault_and_what_it_replaces(name):
    fault = catalogue()[name]
    lines = str(fault.show_diff()).splitlines()
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++ ", "--- "))]
    assert any(line.startswith("+") for line in changed)
    for slot in fault.swaps:
        assert any(re.match(rf"\+\+\+ {slot}(\.\w+)? \({name}\)", line) for line in lines), slot


# What it does.


@each_fault
def test_a_fault_acts_the_same_on_both_tables(name):
    found = {}
    for table in TABLES:
        subject = trainer(name, table=table)
        loss, grads = subject.gradients(*batch())
        try:
            last = subject.run(steps=3)[-1].loss
        except NonFiniteError as error:
            last = str(error)
        found[table] = loss, grads.flat, last
    (loss, grads, last), (fast_loss, fast_grads, fast_last) = found["reference"], found["fast"]
    assert fast_loss == pytest.approx(loss, rel=1e-5, nan_ok=True)
    np.testing.assert_allclose(fast_grads, grads, rtol=1e-5, atol=1e-12 * np.nanmax(abs(grads), initial=0.0))
    assert fast_last == (last if isinstance(last, str) else pytest.approx(last, rel=1e-5, nan_ok=True))


# Names of the activations that the part in a slot saves, and the tensor that the backward pass of the last layer
# completes first after it has entered that part.
SAVES = {
    "transformer": (r".*", "ln_final.gamma"),
    "block": (r"layers\.\d+(\..*)?", "layers.1.w_ff2"),
    "embedding": (r"embedding(\..*)?", "token_embedding"),
    "positions": (r"positions(\..*)?", "position_embedding"),
    "dropout": (r"(.*\.)?dropout\d?(\..*)?", "layers.1.w_ff2"),
    "norm": (r"(.*\.)?(ln\d|final_hidden)(\..*)?", "ln_final.gamma"),
    "residual": (r".*\.residual\d(\..*)?", "layers.1.w_ff2"),
    "attention": (r".*\.attention(\..*)?", "layers.1.w_out"),
    "qkv": (r".*\.attention\.(input|qkv)", "layers.1.w_qkv"),
    "heads": (r".*\.attention\.[qkv]", "layers.1.w_qkv"),
    "keys": (r".*\.attention\.k", "layers.1.w_qkv"),
    "symmetry": (r".*\.attention\.[qk]", "layers.1.w_qkv"),
    "scores": (r".*\.attention\.scores", "layers.1.w_qkv"),
    "bias": (r".*\.attention\.scores", "layers.1.w_qkv"),
    "mask": (r".*\.attention\.weights", "layers.1.w_qkv"),
    "softmax": (r".*\.attention\.weights", "layers.1.w_qkv"),
    "mix": (r".*\.attention\.mixed", "layers.1.w_qkv"),
    "w_out": (r".*\.attention", "layers.1.w_out"),
    "feed_forward": (r".*\.ff(\..*)?", "layers.1.w_ff2"),
    "activation": (r".*\.ff\.(hidden|gate)", "layers.1.w_ff1"),
    "output": (r"logits(\..*)?", "ln_final.gamma"),
    "loss": (r"", "ln_final.gamma"),
}


def test_every_slot_of_the_model_has_its_place():
    assert set(SAVES) == set(SLOTS)


def first_difference(acts, healthy) -> str | None:
    """The first name, in the healthy order of computation, whose array is missing or has other bits."""
    for name in healthy:
        if name not in acts.names() or not np.array_equal(acts[name], healthy[name], equal_nan=True):
            return name
    return None


@both_tables
@each_fault
def test_what_is_computed_before_the_fault_is_healthy_to_the_last_bit(name, table):
    fault = catalogue()[name]
    broken, healthy = trainer(name, table=table), trainer(table=table)
    healthy.params.flat[:] = broken.params.flat
    in_model = [slot for slot in fault.swaps if slot in SLOTS]

    acts = broken.model.forward(batch()[0], DROPOUT_SEED)
    first = first_difference(acts, healthy.model.forward(batch()[0], DROPOUT_SEED))
    assert first is None or any(re.fullmatch(SAVES[slot][0], first) for slot in in_model)

    loss, grads = broken.model.gradients(*batch(), DROPOUT_SEED)
    healthy_loss, sound = healthy.model.gradients(*batch(), DROPOUT_SEED)
    if first is None:
        order = tensor_names()
        entered = min((order.index(SAVES[slot][1]) for slot in in_model), default=len(order))
        for before in order[:entered]:
            assert np.array_equal(grads[before], sound[before]), before
        assert not in_model or loss != healthy_loss or (grads.flat != sound.flat).any()
    if first is None and "loss" not in in_model:
        assert loss == healthy_loss

    if not in_model and "gradient_rule" not in fault.swaps:
        assert (broken.gradients(*batch())[1].flat == healthy.gradients(*batch())[1].flat).all()
    if not in_model and "reported_loss" not in fault.swaps:
        assert broken.loss(*batch()) == healthy.loss(*batch())


@each_fault
def test_only_a_reset_brings_other_weights(name):
    fault = catalogue()[name]
    changed = bool((trainer(name).params.flat != trainer().params.flat).any())
    assert changed is (fault.takes_effect == "reset")
    assert changed is ("initialisation" in fault.swaps)


@both_tables
@each_fault
def test_by_its_id_a_fault_is_what_it_is_as_an_object(name, table):
    by_id, by_object = trainer(name, table=table), trainer(catalogue()[name], table=table)
    assert by_id.faults == by_object.faults == (catalogue()[name],)
    assert by_id.loss(*batch()) == by_object.loss(*batch())
    by_id.step(*batch())
    by_object.step(*batch())
    assert by_id.params.flat.tobytes() == by_object.params.flat.tobytes()


# Several at once.


def clash(one: str, other: str) -> set[str]:
    return set(catalogue()[one].swaps) & set(catalogue()[other].swaps)


def test_two_faults_in_one_slot_are_refused_by_name():
    pairs = [pair for pair in combinations(IDS, 2) if clash(*pair)]
    assert pairs
    for one, other in pairs:
        with pytest.raises(ValueError, match="both swap the slot") as caught:
            sort_swaps(resolve((one, other)))
        assert repr(one) in str(caught.value) and repr(other) in str(caught.value)
        assert any(repr(slot) in str(caught.value) for slot in clash(one, other))


def test_the_trainer_refuses_them_too():
    with pytest.raises(ValueError, match="'strided-heads' and 'query-zero' both swap the slot 'heads'"):
        trainer("strided-heads", "query-zero")


@each_fault
def test_two_faults_in_different_slots_run(name):
    start = IDS.index(name)
    partner = next(each for each in (*IDS[start + 1 :], *IDS[:start]) if not clash(name, each))
    both = trainer(name, partner)
    wanted = {**catalogue()[name].swaps, **catalogue()[partner].swaps}
    assert {*both.model.swapped_slots()} == {slot for slot in wanted if slot in SLOTS}
    assert all(getattr(both.parts, slot) is part for slot, part in wanted.items() if slot in TRAINING_SLOTS)
    try:
        both.step(*batch())
    except NonFiniteError:
        assert both.steps_done == 0
    else:
        assert both.steps_done == 1


# The engine knows nothing of faults.

ENGINE = ("corpus", "model", "training")
PACKAGE = Path(cllm_lab.__file__).parent
ENGINE_FILES = sorted(path for room in ENGINE for path in (PACKAGE / room).rglob("*.py"))


def imported_by(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def test_no_file_of_the_engine_imports_the_faults():
    assert len(ENGINE_FILES) > 30
    assert "cllm_lab.faults.fault" in imported_by(PACKAGE / "faults" / "attention.py")
    for path in ENGINE_FILES:
        assert not [name for name in imported_by(path) if name.startswith("cllm_lab.faults")], path


def test_the_faults_are_not_loaded_with_the_engine():
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in ENGINE_FILES
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.startswith('cllm_lab.faults')])\n"
        "from cllm_lab.training.trainer import Trainer\n"
        "import cllm_lab; cllm_lab.Trainer\n"
        "print('cllm_lab.faults.trainer' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.splitlines() == ["[]", "True"]
