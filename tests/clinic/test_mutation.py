"""The table of tests against planted faults."""

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.clinic.mutation import MutationTable

FAULTS = ("bent", "broken", "worn")
TESTS = {
    "blind": lambda machine: True,
    "keen": lambda machine: "broken" not in machine["faults"],
    "raising": lambda machine: 1.0 / (0.0 if "bent" in machine["faults"] else 1.0) > 0.0,
    "alarmist": lambda machine: False,
}


def make(faults: tuple[str, ...]) -> dict[str, object]:
    return {"faults": faults, "used": 0}


def test_each_cell_is_the_verdict_of_its_test_on_its_machine() -> None:
    table = lab.mutation_table(make, TESTS, FAULTS)
    assert table.tests == tuple(TESTS) and table.machines == ("sound", *FAULTS)
    expected = [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(table.red, np.array(expected, bool))
    assert table.never_red == ("blind",)
    assert table.false_alarms == ("alarmist",)
    assert table.caught_by("keen") == ("broken",) and table.caught_by("blind") == ()
    assert table.missed == ("worn",)
    assert repr(table).splitlines() == [
        "blind: red on 0 of 3 planted faults",
        "keen: red on 1 of 3 planted faults",
        "raising: red on 1 of 3 planted faults",
        "alarmist: red on 3 of 3 planted faults, and the sound machine too",
        "caught by no test without a false alarm: worn",
    ]


def test_every_trial_has_a_machine_of_its_own() -> None:
    def spoils(machine: dict[str, int]) -> bool:
        machine["used"] += 1
        return machine["used"] == 1

    assert lab.mutation_table(make, {"a": spoils, "b": spoils}, FAULTS).never_red == ("a", "b")


def test_an_error_that_is_no_verdict_comes_through() -> None:
    def forgetful(machine: dict[str, object]) -> bool:
        return bool(machine["nothing"])

    with pytest.raises(KeyError, match="nothing"):
        lab.mutation_table(make, {"forgetful": forgetful}, FAULTS)


def test_what_makes_no_table_is_refused() -> None:
    for tests, faults in (({}, FAULTS), (TESTS, ()), (TESTS, ("bent", "bent"))):
        with pytest.raises(ValueError, match="at least one test and one fault, each fault once"):
            lab.mutation_table(make, tests, faults)
    with pytest.raises(TypeError, match="test 'vague' must give True or False; got None"):
        lab.mutation_table(make, {"vague": lambda machine: None}, FAULTS)
    with pytest.raises(ValueError, match="no test 'keen'; the tests are blind"):
        MutationTable(("blind",), ("sound", "bent"), np.zeros((1, 2), bool)).caught_by("keen")


def test_on_machines_of_this_library() -> None:
    text = lab.InductionLanguage(n_symbols=3)
    config = lab.ModelConfig(vocab_size=text.vocab_size, context_length=4, d_model=4, n_heads=2, n_layers=1)
    x, y = text.tokens[:8].reshape(2, 4), text.tokens[1:9].reshape(2, 4)

    def trainer(faults: tuple[str, ...]) -> lab.Trainer:
        train = lab.TrainConfig(batch_size=2, sequence_length=4)
        return lab.Trainer(lab.Transformer(config, seed=0), text, train, faults=faults)

    tests = {
        "weights move": lambda machine: lab.weight_updates(machine, x, y).passed,
        "loss is the model's": lambda machine: lab.recomputed_loss(machine, x, y).agrees,
    }
    table = lab.mutation_table(trainer, tests, ("embeddings-only-update", "loss-ignores-model", "wrong-sign"))
    assert table.caught_by("weights move") == ("embeddings-only-update",)
    assert table.caught_by("loss is the model's") == ("loss-ignores-model",)
    assert table.missed == ("wrong-sign",) and not table.false_alarms
