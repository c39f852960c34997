import json
import math
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict, fields, replace

import numpy as np
import pandas as pd
import pytest

from cllm_lab.training.history import RECORD_FIELDS, History, LogError, Records, StepLog, StepRecord, read_log
from tests.training.machines import STEPS_PER_EPOCH, make_trainer

PROMISED = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "update_ratio",
    "grad_norm_embedding",
    "grad_norm_attention",
    "grad_norm_ff",
    "grad_norm_ln",
    "validation_loss",
)


def record(step, **changes):
    numbers = {field.name: 0.1 * step for field in fields(StepRecord)}
    return replace(StepRecord(**{**numbers, "step": step, "epoch": 1, "tokens": 16}), **changes)


def test_a_record_has_the_promised_fields_and_its_speed():
    assert set(PROMISED) <= set(RECORD_FIELDS)
    assert record(1, tokens=64, seconds=0.5).tokens_per_second == 128.0
    assert record(1, seconds=0.0).tokens_per_second == float("inf")
    with pytest.raises(AttributeError):
        record(1).loss = 0.0


def test_a_row_of_the_table_for_every_step():
    trainer = make_trainer(validation_fraction=0.3)
    history = trainer.run(steps=8)
    frame = history.steps
    assert list(frame.columns) == [*RECORD_FIELDS, "tokens_per_second"]
    assert frame["step"].tolist() == list(range(1, 9))
    kinds = {name: frame[name].dtype.kind for name in frame}
    whole = {"step", "epoch", "tokens"}
    assert kinds == {name: "i" if name in whole else "f" for name in frame}
    for row, kept in zip(frame.to_dict("records"), history, strict=True):
        assert row["loss"] == kept.loss
        assert row["tokens_per_second"] == kept.tokens / kept.seconds
        assert pd.isna(row["validation_loss"]) == (kept.validation_loss is None)
    assert frame["validation_loss"].notna().sum() == 2


def test_the_table_has_its_columns_before_the_first_step():
    frame = make_trainer().history.steps
    assert len(frame) == 0
    assert list(frame.columns) == [*RECORD_FIELDS, "tokens_per_second"]
    assert frame["validation_loss"].dtype == "float64"


def test_a_history_is_a_sequence_of_its_records():
    records = [record(n) for n in range(1, 5)]
    history = History(records, [0.5])
    assert len(history) == 4
    assert list(history) == records
    assert history[1] == records[1]
    assert history[-2:] == records[2:]
    assert history.losses == [r.loss for r in records]
    assert history.epoch_loss == [0.5]
    records.clear()
    assert len(history) == 4
    assert repr(history) == "History(4 steps, loss 0.1000 to 0.4000)"
    assert repr(History([], [])) == "History(no steps yet)"


# The log.


def test_a_log_gives_back_the_history_to_the_bit(tmp_path):
    path = tmp_path / "run.jsonl"
    trainer = make_trainer(log=path, validation_fraction=0.3)
    history = trainer.run(steps=8)
    found = read_log(path)
    assert list(found) == list(history)
    assert found.epoch_loss == history.epoch_loss
    assert len(found.epoch_loss) == 2


def test_each_line_is_written_with_its_step(tmp_path):
    path = tmp_path / "run.jsonl"
    trainer = make_trainer(log=path)
    assert len(path.read_text().splitlines()) == 1
    for n in range(1, STEPS_PER_EPOCH + 3):
        assert next(trainer.steps()).step == n
        assert read_log(path)[-1].step == n
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["format"] == "cllm_lab-log"
    assert lines[0]["version"] == 1
    assert lines[0]["train"]["batch_size"] == 2
    assert lines[0]["model"]["d_model"] == 8
    assert lines[STEPS_PER_EPOCH + 1] == {"epoch": 1, "epoch_loss": trainer.history.epoch_loss[0]}


def test_a_step_on_a_given_batch_is_not_of_the_run_and_not_logged(tmp_path):
    path = tmp_path / "run.jsonl"
    trainer = make_trainer(log=path)
    trainer.step([[5]], [[6]])
    assert len(read_log(path)) == 0


ENDLESS = """
import sys
import cllm_lab as lab
corpus = lab.MarkovLanguage(n_symbols=5, n_tokens=60)
model = lab.Transformer(
    lab.ModelConfig(vocab_size=5, context_length=8, d_model=4, n_heads=1, n_layers=1), parts=lab.parts.reference
)
for record in lab.Trainer(model, corpus, lab.TrainConfig(sequence_length=8), log=sys.argv[1]).steps():
    pass
"""


def test_a_killed_process_leaves_a_log_that_can_be_read(tmp_path):
    path = tmp_path / "run.jsonl"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)])
    try:
        deadline = time.monotonic() + 60
        while not (path.exists() and path.read_bytes().count(b"\n") > 20):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    history = read_log(path)
    assert [kept.step for kept in history] == list(range(1, len(history) + 1))
    assert len(history) > 10
    # An epoch has three steps; the line of its loss follows that of its last step.
    assert len(history.epoch_loss) in {len(history) // 3, (len(history) - 1) // 3}


def logged(path, steps=(1, 2, 3)):
    log = StepLog(path, {})
    for step in steps:
        log.append(record(step))
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize("kept", [1, 10, 40, -2])
def test_a_last_line_that_was_cut_off_is_left_out(tmp_path, kept):
    path = tmp_path / "run.jsonl"
    *whole, last = logged(path)
    path.write_text("".join(whole) + last[:kept])
    assert [r.step for r in read_log(path)] == [1, 2]


def test_a_last_line_without_its_line_end_counts(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(logged(path)).rstrip("\n"))
    assert [r.step for r in read_log(path)] == [1, 2, 3]


BROKEN = (
    '{"step": 2, "lo',
    "rubbish",
    "5",
    "null",
    "[1]",
    '{"step": 2}',
    '{"epoch_loss": 1.0}',
    '{"epoch": 1, "epoch_loss": null}',
    '{"epoch": 1, "unknown": 2}',
    "\x00\x00",
)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("place", [2, 4])
def test_a_broken_line_within_is_refused_with_its_number(tmp_path, broken, place):
    path = tmp_path / "run.jsonl"
    lines = logged(path)
    lines.insert(place - 1, broken + "\n")
    if place == 4:
        lines.append(lines[-1])
    path.write_text("".join(lines))
    with pytest.raises(LogError) as caught:
        read_log(path)
    assert f"{path}: line {place} is damaged" in str(caught.value)


def test_a_last_line_that_ends_and_is_still_broken_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(logged(path)) + "rubbish\n")
    with pytest.raises(LogError, match="line 5 is damaged"):
        read_log(path)


FOREIGN = {
    "text": b"Dear diary,\ntoday I trained.\n",
    "json": b'{"step": 1}\n',
    "json of another kind": b'{"format": "other"}\n',
    "a list": b"[1, 2]\n",
    "binary": bytes(range(256)),
    "a line end before the header": b'\n{"format": "cllm_lab-log", "version": 1}\n',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_refused_and_left_untouched(tmp_path, content):
    path = tmp_path / "precious.txt"
    path.write_bytes(content)
    for attempt in (lambda: read_log(path), lambda: StepLog(path, {}), lambda: make_trainer(log=path)):
        with pytest.raises(LogError, match="line 1 does not say 'cllm_lab-log'; this is no log of cllm_lab"):
            attempt()
    assert path.read_bytes() == content


def test_a_log_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"format": "cllm_lab-log", "version": 2}\n')
    with pytest.raises(LogError, match="log version 2; this library reads 1"):
        read_log(path)
    path.write_text('{"format": "cllm_lab-log"}\n')
    with pytest.raises(LogError, match="line 1 is damaged"):
        read_log(path)


def test_a_log_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(LogError, match="line 1"):
        read_log(empty)
    logged(empty)
    assert len(read_log(empty)) == 3


def test_of_a_resumed_run_the_later_lines_count(tmp_path):
    path, checkpoint = tmp_path / "run.jsonl", tmp_path / "run.safetensors"
    trainer = make_trainer(log=path)
    trainer.run(steps=4)
    trainer.save(checkpoint)
    trainer.run(steps=3)
    resumed = type(trainer).load(checkpoint, trainer.corpus, log=path)
    resumed.at(5, learning_rate=0.5)
    history = resumed.run(steps=4)
    found = read_log(path)
    assert list(found) == list(history)
    assert found[4].learning_rate == 0.5
    assert found.epoch_loss == history.epoch_loss


@pytest.mark.parametrize("kept", [20, 0])
def test_a_run_resumed_after_a_cut_off_line_can_be_read(tmp_path, kept):
    path = tmp_path / "run.jsonl"
    *whole, last = logged(path)
    path.write_text("".join(whole) + last[:kept])
    log = StepLog(path, {})
    log.append(record(3, loss=7.0))
    found = read_log(path)
    assert [(r.step, r.loss) for r in found] == [(1, 0.1), (2, 0.2), (3, 7.0)]
    assert asdict(found[2]) == asdict(record(3, loss=7.0))


def test_records_in_columns_are_the_records_that_were_given():
    given = [replace(record(n), validation_loss=None if n % 2 else 0.5 * n) for n in range(1, 6)]
    table = Records(given)
    assert list(table) == given and table[-1] == given[-1] and table[1:3] == given[1:3]
    assert table.column("step").dtype == np.int64 and table.column("loss").tolist() == [r.loss for r in given]
    assert np.isnan(table.column("validation_loss")).tolist() == [True, False, True, False, True]


def test_a_validation_loss_that_is_no_number_was_taken_all_the_same():
    table = Records([record(1)])
    table.set_validation_loss(math.nan)
    assert math.isnan(table[0].validation_loss)


def test_a_copy_of_records_does_not_grow_with_them():
    table = Records([record(1)])
    twin = table.copy()
    assert twin == table
    table.append(record(2))
    assert len(twin) == 1 and twin != table
    twin.set_validation_loss(7.0)
    assert table[0].validation_loss == record(1).validation_loss


def test_a_long_history_takes_a_hundred_bytes_a_step():
    tracemalloc.start()
    try:
        table = Records(record(n) for n in range(1, 10_001))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == 10_000 and size < 10_000 * 140
