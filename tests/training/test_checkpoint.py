import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cllm_lab import files
from cllm_lab.corpus.corpora import Corpus, load_corpus
from cllm_lab.corpus.source import CorpusError
from cllm_lab.model.parts import Part, PartsTable
from cllm_lab.model.transformer import Transformer
from cllm_lab.training import checkpoint
from cllm_lab.training.checkpoint import CheckpointError, fault_ids
from cllm_lab.training.config import OPTIMIZERS
from cllm_lab.training.trainer import Trainer
from tests.training.machines import LANGUAGE, TABLES, TEXT, Fault, a_batch, bits, make_model, make_trainer


@pytest.fixture
def path(tmp_path):
    """Where the checkpoint of a test goes."""
    return tmp_path / "run.safetensors"


def load(path, **asked):
    """A checkpoint of a trainer on TEXT, which lives in memory and must be passed."""
    return Trainer.load(path, **{"corpus": TEXT, **asked})


def read(path):
    """The arrays and the JSON of a checkpoint."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        return arrays, json.loads(file.metadata()["cllm_lab"])


def write(path, arrays, metadata):
    save_file(arrays, path, {"cllm_lab": json.dumps(metadata)})


# Resuming.


@dataclass(frozen=True)
class Case:
    """A trainer and how it is made."""

    model: dict
    train: dict
    corpus: object = TEXT
    changes: dict | None = None

    def trainer(self):
        made = make_trainer(make_model(corpus=self.corpus, **self.model), self.corpus, **self.train)
        for step, change in (self.changes or {}).items():
            made.at(step, **change)
        return made


CASES = {
    **{kind: Case({}, {"optimizer": kind}) for kind in OPTIMIZERS},
    "reference": Case({"table": "reference"}, {}),
    "double precision": Case({"dtype": "float64"}, {"optimizer": "momentum"}),
    "dropout": Case({"dropout": 0.3}, {}),
    "accumulate": Case({"dropout": 0.2}, {"accumulate": 2}),
    "cosine": Case({}, {"schedule": "cosine", "warmup_steps": 3, "total_steps": 12}),
    "changes": Case({}, {}, changes={3: {"learning_rate": 0.1}, 9: {"clip_norm": None, "schedule": "step"}}),
    "validation": Case({}, {"validation_fraction": 0.3, "validate_every": 2}),
    "endless language": Case({}, {"validation_fraction": 0.3}, corpus=LANGUAGE),
    "everything chosen": Case(
        {
            "table": "reference",
            "norm": "post",
            "tied": False,
            "activation": "gelu",
            "positions": "sinusoidal",
        },
        {"seed": 7, "shuffle": False, "betas": (0.8, 0.9), "epsilon": 1e-3, "clip_norm": None},
    ),
}


@pytest.mark.parametrize("stop_at", [7, 10])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_resumed_run_is_to_the_bit_the_one_never_stopped(path, case, stop_at):
    """Steps 7 and 10 lie in the middle and at the end of an epoch of TEXT."""
    straight, stopped = case.trainer(), case.trainer()
    for trainer in (straight, stopped):
        trainer.total_steps = 12
    for _ in range(stop_at):
        next(stopped.steps())
    stopped.save(path)
    resumed = Trainer.load(path, None if case.corpus is LANGUAGE else TEXT)
    assert bits(resumed) == bits(stopped)
    assert list(resumed.history) == list(stopped.history)
    for _ in range(12):
        next(straight.steps())
    for _ in range(12 - stop_at):
        next(resumed.steps())
    assert bits(resumed) == bits(straight)
    assert resumed.history.epoch_loss == straight.history.epoch_loss
    prompt = "the sky" if case.corpus is TEXT else "a b"
    assert resumed.generate(prompt, 5) == straight.generate(prompt, 5)


def test_the_horizon_that_a_run_has_set_is_kept(path):
    straight, stopped = (make_trainer(schedule="cosine") for _ in range(2))
    straight.run(steps=12)

    def stop(line):
        if line.startswith("Gradients"):
            stopped.stop()

    stopped.run(steps=12, console=stop)
    assert stopped.steps_done == 5
    stopped.save(path)
    resumed = load(path)
    for _ in range(7):
        next(resumed.steps())
    assert bits(resumed) == bits(straight)


def test_a_trainer_is_saved_and_loaded_before_its_first_step(path):
    trainer = make_trainer(make_model(seed=5))
    trainer.save(path)
    resumed = load(path)
    assert bits(resumed) == bits(trainer)
    assert len(resumed.history) == 0
    assert resumed.model.config == trainer.model.config
    assert (resumed.model.seed, resumed.model.dtype, resumed.model.table) == (
        5,
        trainer.model.dtype,
        trainer.model.table,
    )


def test_saving_changes_nothing(path):
    trainer, twin = make_trainer(), make_trainer()
    trainer.run(steps=3)
    trainer.save(path)
    trainer.run(steps=4)
    twin.run(steps=3)
    twin.run(steps=4)
    assert bits(trainer) == bits(twin)


def test_weights_changed_by_hand_are_saved(path):
    trainer = make_trainer()
    trainer.params["ln_final.gamma"][:] = 2.0
    trainer.save(path)
    assert (load(path).params["ln_final.gamma"] == 2.0).all()


def test_a_ratio_that_was_infinite_stays_so(path):
    trainer = make_trainer(faults=(FAULT,))
    trainer.step(*a_batch(trainer))
    assert trainer.history[0].update_ratio == float("inf")
    trainer.save(path)
    assert list(load(path, faults=(FAULT,)).history) == list(trainer.history)


def test_numbers_counted_by_numpy_can_be_saved(path):
    model = make_model(seed=np.int64(3), d_model=np.int64(8))
    trainer = make_trainer(model, batch_size=np.int64(2), seed=np.int32(1))
    trainer.at(np.int64(4), warmup_steps=np.int64(2))
    trainer.run(steps=2)
    trainer.save(path)
    resumed = load(path)
    trainer.run(steps=4)
    resumed.run(steps=4)
    assert bits(resumed) == bits(trainer)


OTHER_PROCESS = """
import hashlib, sys
import cllm_lab as lab
trainer = lab.Trainer.load(sys.argv[1])
trainer.run(steps=3)
print(hashlib.sha256(trainer.params.flat.tobytes()).hexdigest(), repr(trainer.history[-1].loss))
"""


@pytest.mark.parametrize("table", TABLES)
def test_another_process_goes_on_to_the_same_bits(path, table):
    corpus = load_corpus("large")
    model = make_model(table, corpus=corpus)
    trainer = make_trainer(model, corpus, batch_size=4)
    trainer.run(steps=2)
    trainer.save(path)
    found = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(path)], capture_output=True, text=True, check=True
    )
    trainer.run(steps=3)
    assert found.stdout.split() == [
        hashlib.sha256(trainer.params.flat.tobytes()).hexdigest(),
        repr(trainer.history[-1].loss),
    ]


# The corpus.


def test_a_text_in_memory_must_be_passed(path):
    make_trainer().save(path)
    with pytest.raises(CorpusError, match="pass the corpus itself"):
        Trainer.load(path)
    assert load(path).corpus is TEXT


def test_a_file_that_has_changed_is_refused_and_another_corpus_can_be_passed(path, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT.text)
    corpus = load_corpus(file)
    trainer = make_trainer(corpus=corpus)
    trainer.run(steps=3)
    trainer.save(path)
    assert Trainer.load(path).corpus.sha256 == corpus.sha256
    file.write_text(TEXT.text + " blue")
    with pytest.raises(CorpusError, match="is not the corpus described: its sha256 is"):
        Trainer.load(path)
    file.unlink()
    with pytest.raises(CorpusError, match="no corpus"):
        Trainer.load(path)
    resumed = Trainer.load(path, corpus=TEXT)
    trainer.run(steps=4)
    resumed.run(steps=4)
    assert bits(resumed) == bits(trainer)


def test_a_corpus_passed_goes_before_the_one_that_is_named(path):
    corpus = load_corpus("large")
    make_trainer(make_model(corpus=corpus), corpus).save(path)
    assert Trainer.load(path).corpus.name == "large"
    assert Trainer.load(path, corpus=TEXT).corpus is TEXT


def test_a_corpus_that_does_not_fit_is_refused(path):
    make_trainer().save(path)
    with pytest.raises(CorpusError, match="is too small: the corpus has"):
        Trainer.load(path, corpus=load_corpus("large"))
    with pytest.raises(TypeError, match="corpus must come from load_corpus"):
        Trainer.load(path, corpus="large")


def test_a_corpus_whose_epoch_is_too_short_for_the_place_is_refused(path):
    trainer = make_trainer()
    trainer.run(steps=4)
    trainer.save(path)
    short = Corpus(" ".join(TEXT.text.split()[:20]), TEXT.tokenizer)
    with pytest.raises(
        CheckpointError, match="stands after batch 4 of an epoch, but an epoch of this corpus has 2"
    ):
        load(path, corpus=short)


# Faults and parts.

FAULT = Fault("one-bias", {"trainable": lambda specs: ("layers.0.b_out",)})


def test_fault_ids_are_kept_and_the_same_faults_go_on(path):
    def swap(x, branch, site):
        return x - branch

    def swap_backward(dy, site):
        return dy, -dy

    faults = (FAULT, Fault("minus", {"residual": Part("minus", swap, swap_backward)}))
    trainer = make_trainer(faults=faults)
    trainer.run(steps=2)
    trainer.save(path)
    assert read(path)[1]["faults"] == ["one-bias", "minus"]
    resumed = load(path, faults=faults)
    trainer.run(steps=4)
    resumed.run(steps=4)
    assert bits(resumed) == bits(trainer)


@pytest.mark.parametrize("given", [(), (Fault("other", {}),), (FAULT, Fault("other", {}))])
def test_other_faults_are_refused_naming_both(path, given):
    make_trainer(faults=(FAULT,)).save(path)
    with pytest.raises(CheckpointError) as caught:
        load(path, faults=given)
    text = str(caught.value)
    assert "was saved with faults ['one-bias']" in text
    assert f"got {[fault.id for fault in given]}" in text


def test_faults_for_a_healthy_checkpoint_are_refused_and_so_are_strings(path):
    make_trainer().save(path)
    with pytest.raises(CheckpointError, match=r"was saved with faults \[\]; got \['one-bias'\]"):
        load(path, faults=(FAULT,))
    with pytest.raises(TypeError, match="faults must be fault objects"):
        load(path, faults=("one-bias",))


def test_parts_of_nobodys_table_are_refused_by_their_slots(path):
    foreign = Part("mine", lambda x, branch, site: x + branch, lambda dy, site: (dy, dy))
    model = make_model().swapped(
        residual=foreign, activation=replace(make_model().parts.activation, name="b")
    )
    with pytest.raises(CheckpointError, match=r"the parts in activation, residual are in no table"):
        make_trainer(model).save(path)
    assert not path.exists()
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("name", ["mine", "fast"])
def test_a_table_of_ones_own_is_refused(path, name):
    known = TABLES["fast"].slots
    mine = {
        slot: {n: replace(part, name="my " + part.name) for n, part in offered.items()}
        for slot, offered in known.items()
    }
    model = Transformer(make_model().config, parts=PartsTable(name, mine))
    with pytest.raises(CheckpointError, match=f"the parts table '{name}' is not one of cllm_lab's"):
        make_trainer(model).save(path)
    assert not path.exists()


# Writing.


def fail_to_replace(monkeypatch):
    def replaced(source, target):
        raise OSError("no room")

    monkeypatch.setattr(files.os, "replace", replaced)


def fail_in_the_middle(monkeypatch, error):
    def half(arrays, target, metadata):
        Path(target).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", half)


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("failure", ["replace", "write", "full disk", "interrupt"])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(path, monkeypatch, failure, existed):
    trainer = make_trainer()
    if existed:
        trainer.save(path)
    before = path.read_bytes() if existed else None
    trainer.run(steps=2)
    if failure == "replace":
        fail_to_replace(monkeypatch)
    else:
        errors = {"write": OSError, "full disk": SafetensorError, "interrupt": KeyboardInterrupt}
        fail_in_the_middle(monkeypatch, errors[failure]("no room"))
    with pytest.raises(KeyboardInterrupt if failure == "interrupt" else OSError):
        trainer.save(path)
    assert os.listdir(path.parent) == ([path.name] if existed else [])
    assert not existed or path.read_bytes() == before


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(path):
    trainer = make_trainer()
    for steps in (1, 2):
        trainer.run(steps=steps)
        trainer.save(path)
    assert load(path).steps_done == 3
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_file_has_the_mode_of_any_new_file(path):
    plain = path.with_name("plain")
    plain.touch()
    make_trainer().save(path)
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_trainer().save(tmp_path / "nowhere" / "run.safetensors")
    assert os.listdir(tmp_path) == []


def test_the_path_may_be_a_string(path):
    make_trainer().save(str(path))
    assert Trainer.load(str(path), TEXT).steps_done == 0


# Reading what is no checkpoint.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a sound checkpoint, taken in the middle of an epoch."""
    file = tmp_path_factory.mktemp("saved") / "run.safetensors"
    trainer = make_trainer(validation_fraction=0.3)
    trainer.at(9, learning_rate=0.1)
    trainer.run(steps=6)
    trainer.save(file)
    return file.read_bytes()


def assert_refused(path, error=CheckpointError, match=None):
    before = path.read_bytes()
    with pytest.raises(error, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    return str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 1000, 0.25, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(path, saved, kept):
    path.write_bytes(saved[: int(kept * len(saved)) if isinstance(kept, float) else kept])
    assert_refused(path, match="cannot be read as a checkpoint: it is truncated, damaged or something else")


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


FOREIGN = {
    "text": b"It was a dark and stormy night.\n" * 40,
    "random bytes": np.random.default_rng(0).bytes(4000),
    "zeros": bytes(4000),
    "json": b'{"format": "cllm_lab-checkpoint"}',
    "an endless header": (2**63 - 1).to_bytes(8, "little") + b"{}",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused(path, content):
    path.write_bytes(content)
    assert_refused(path, match="cannot be read as a checkpoint")


def test_a_pickle_is_refused_and_never_opened(path, tmp_path):
    trap = tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(trap)))
    assert_refused(path, match="cannot be read as a checkpoint")
    assert not trap.exists()


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"cllm_lab": "rubbish"},
        {"cllm_lab": "[]"},
        {"cllm_lab": "{}"},
        {"cllm_lab": '{"format": "x"}'},
    ],
    ids=str,
)
def test_a_safetensors_file_of_another_kind_is_refused(path, metadata):
    save_file({"weight": np.zeros(3)}, path, metadata)
    assert_refused(path, match="is a safetensors file but no checkpoint of cllm_lab")


def test_what_is_not_there_or_is_a_folder(path, tmp_path):
    for missing in (path, tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load(missing)


@pytest.mark.parametrize("version", [4, 99, None, "1"])
def test_another_version_is_refused(path, saved, version):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    write(path, arrays, {**metadata, "version": version})
    assert f"has checkpoint version {version!r}; this library reads up to 3" in assert_refused(path)


KEYS = (
    "model",
    "model_seed",
    "dtype",
    "parts",
    "train",
    "corpus",
    "faults",
    "steps_done",
    "epochs_done",
    "total_steps",
    "moments_since",
    "batches_taken",
    "changes",
)


def test_the_keys_of_the_json(path, saved):
    path.write_bytes(saved)
    assert set(read(path)[1]) == {"format", "version", *KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_refused(path, saved, key):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    del metadata[key]
    write(path, arrays, metadata)
    assert key in assert_refused(path, match="is damaged")


@pytest.mark.parametrize("wrong", ["rubbish", 7.5, [1], {"a": 1}, None], ids=repr)
@pytest.mark.parametrize("key", KEYS)
def test_a_garbled_key_never_makes_a_trainer_of_other_settings(path, saved, key, wrong):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    if (key, wrong) == ("total_steps", None):
        return
    write(path, arrays, {**metadata, key: wrong})
    try:
        trainer = load(path)
    except CheckpointError as refused:
        assert str(path) in str(refused)
    else:
        # The corpus that is passed goes before any description, whatever that says.
        assert (key, wrong) == ("corpus", {"a": 1})
        assert trainer.corpus is TEXT


@pytest.mark.parametrize("field", ["model", "train"])
@pytest.mark.parametrize("change", [{"unknown": 1}, {"d_model": -1}, {"batch_size": 0}], ids=str)
def test_garbled_settings_are_refused(path, saved, field, change):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    write(path, arrays, {**metadata, field: {**metadata[field], **change}})
    assert_refused(path, match="is damaged")


def array_names():
    trainer = make_trainer()
    return [
        "params",
        *(f"moments.{name}" for name in trainer.moments),
        "epoch_loss",
        "epoch_step_losses",
        "history.step",
        "history.loss",
        "history.validation_loss",
        "history.seconds",
    ]


@pytest.mark.parametrize("name", array_names())
def test_a_missing_array_is_refused(path, saved, name):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    del arrays[name]
    write(path, arrays, metadata)
    assert_refused(path)


@pytest.mark.parametrize("name", ["params", "moments.first", "history.loss", "history.step"])
def test_an_array_of_another_shape_is_refused(path, saved, name):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    write(path, {**arrays, name: arrays[name][:-1].copy()}, metadata)
    assert_refused(path)
    write(path, {**arrays, name: arrays[name][None].copy()}, metadata)
    assert_refused(path)


@pytest.mark.parametrize("name", ["params", "moments.second"])
def test_an_array_of_another_dtype_is_refused(path, saved, name):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    write(path, {**arrays, name: arrays[name].astype(np.float64)}, metadata)
    assert_refused(path, match="belongs to another machine")


def test_an_array_too_many_is_refused(path, saved):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    write(path, {**arrays, "moments.third": arrays["params"]}, metadata)
    assert_refused(path, match="belongs to another machine")


def test_the_sound_file_is_not_refused(path, saved):
    path.write_bytes(saved)
    trainer = load(path)
    assert trainer.steps_done == 6
    assert trainer.state().changes == {9: {"learning_rate": 0.1}}


def test_planned_faults_are_kept_by_their_ids(path):
    other = Fault("no-clipping", {"clipping": lambda norm, clip_norm: 1.0})
    through, stopped = make_trainer(faults=(FAULT,)), make_trainer(faults=(FAULT,))
    for trainer in (through, stopped):
        trainer.at(4, faults=(other,))
        trainer.at(6, faults=(FAULT, other))
    through.run(steps=7)
    stopped.run(steps=2)
    stopped.save(path)
    assert fault_ids(path) == ["one-bias", "no-clipping"]
    with pytest.raises(
        CheckpointError, match=r"saved with faults \['one-bias', 'no-clipping'\]; got \['one-bias'\]"
    ):
        load(path, faults=(FAULT,))
    resumed = load(path, faults=(other, FAULT))
    assert resumed.faults == (FAULT,)
    resumed.run(steps=5)
    assert bits(resumed) == bits(through)


def test_a_file_of_the_first_version_is_read(path, saved):
    path.write_bytes(saved)
    arrays, metadata = read(path)
    del metadata["moments_since"]
    write(path, arrays, metadata | {"version": 1})
    assert Trainer.load(path, TEXT).moments_since == 0
