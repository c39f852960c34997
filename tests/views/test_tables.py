"""Tables: their numbers recomputed."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.views.tables import memory_table, tensor_table
from tests.views.machines import Swap, corpus, trainer

CONFIG = lab.ModelConfig(vocab_size=611, d_model=512, n_heads=8, n_layers=6)
TOKENS = corpus().tokens


def batch():
    return TOKENS[None, :4], TOKENS[None, 1:5]


def test_each_tensor_has_its_measured_row() -> None:
    machine = trainer()
    table = tensor_table(machine, *batch())
    _, grads = machine.gradients(*batch())
    before = machine.params.copy()
    assert list(table.index) == list(machine.params)
    machine.step(*batch())
    for name, row in table.iterrows():
        assert row["shape"] == before[name].shape
        assert row["trainable"]
        assert row["weight"] == pytest.approx(np.linalg.norm(before[name]), rel=1e-5)
        assert row["gradient"] == pytest.approx(np.linalg.norm(grads[name]), rel=1e-5)
        assert row["gradient_zeros"] == np.mean(grads[name] == 0.0)
        assert row["update"] == pytest.approx(np.linalg.norm(machine.params[name] - before[name]), rel=1e-3)


def test_the_trainer_is_left_as_it_was() -> None:
    machine = trainer()
    before = machine.params.flat.copy()
    tensor_table(machine, *batch())
    assert np.array_equal(machine.params.flat, before)
    assert machine.steps_done == 0


def test_what_is_not_trained_shows() -> None:
    fault = Swap("embeddings-only", {"trainable": lambda specs: ("token_embedding",)})
    table = tensor_table(trainer(faults=(fault,)), *batch())
    assert table.index[table["trainable"]].tolist() == ["token_embedding"]
    assert table.index[table["update"] > 0.0].tolist() == ["token_embedding"]


def test_the_memory_table_adds_up_in_floats_and_in_megabytes() -> None:
    table = memory_table(CONFIG, batch_size=4, sequence_length=32)
    rows = lab.activation_memory(CONFIG, 4, 32)
    assert list(table.index) == [*(row.field for row in rows), "sum"]
    assert list(table["kept_as"]) == [*(row.here for row in rows), ""]
    for column in ("counted", "held", "needed"):
        floats = [getattr(row, column) for row in rows]
        assert table[column].tolist() == [*floats, sum(floats)]
        assert table[f"{column}_MB"].tolist() == pytest.approx([4 * n / 1e6 for n in (*floats, sum(floats))])
    assert table.loc["sum", "counted"] == 2_109_824
    assert table.loc["sum", "held"] == 3_355_008
    assert table["counted"].dtype.kind == "i"


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(lab.ConfigError, match="norm='pre'"):
        memory_table(lab.ModelConfig(vocab_size=9, norm="post"), 4, 32)
