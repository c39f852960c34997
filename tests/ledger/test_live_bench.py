"""What the ledger reads from the stored measurements of the live bench: of several kernels the slowest."""

import json

import pytest

from cllm_lab.ledger.claim import CONFIRMED, NOT_HERE, PARTLY, REFUTED
from cllm_lab.ledger.claims import CLAIMS
from cllm_lab.ledger.experiments import live_bench

(HOTKEY,) = [claim for claim in CLAIMS if claim.id == "002-hotkey"]


def kernel(version, answers, presses, in_a_cell, cell, beyond, ours):
    return {
        "ipykernel": version,
        "machine": {"parameters": 24},
        "steps": [9.0, 0.2, 0.3],
        "answers": answers,
        "presses": presses,
        "in_a_cell": {"presses": in_a_cell, "cell": cell},
        "stops": [{"beyond_the_step": 0.0}, {"beyond_the_step": beyond}],
        "threads": {"after_stop": [{"ours": []}, {"ours": ours}]},
    }


TYPED = {
    "fields": 8,
    "texts": 3,
    "arrived": 3,
    "commands": [],
    "commands_on_a_button": [],
    "commands_on_a_cell": ["interrupt"],
}
OPENING = {
    "bench": {"process": [0.9, 0.8, 5.0]},
    "values": {"lazy": [0.001], "historical": [0.02, 0.01, 0.03], "historical_entries": [23_094]},
    "idle_threads": {"making": [0.002], "work_ratio": [1.0]},
}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(live_bench, "data_path", lambda name: tmp_path / name)

    def write(typed):
        content = {
            "documents_size": [
                kernel("7.4.0", [0.1, 0.2], [0.3, 0.1], [2.0, 1.0], 2.1, 0.05, []),
                kernel("6.29.0", [0.3, 0.4], [0.1, 0.1], [3.0, 4.0], 4.1, 0.02, ["cllm_lab x"]),
            ],
            "text_fields": typed,
            "opening": OPENING,
        }
        (tmp_path / live_bench.FILE).write_text(json.dumps(content), encoding="utf-8")

    return write


def test_the_slowest_of_all_kernels_counts(stored) -> None:
    stored(TYPED)
    assert live_bench.live_bench() == {
        "ipykernels": ["7.4.0", "6.29.0"],
        "parameters": 24,
        "step_seconds": [0.3, 0.3],
        "answer_seconds": 0.25,
        "longest_answer_seconds": 0.4,
        "longest_freeze_seconds": 0.4,
        "longest_freeze_blocking_seconds": 4.0,
        "cell_seconds": 4.1,
        "stop_beyond_the_step_seconds": 0.05,
        "threads_of_ours_after_stop": 1,
        "fields": 8,
        "hotkey_stolen": False,
        "commands_on_a_button": [],
        "commands_on_a_cell": ["interrupt"],
    }


@pytest.mark.parametrize("wrong", [{"commands": ["interrupt"]}, {"arrived": 2}])
def test_a_key_that_does_something_else_or_does_not_arrive_is_stolen(stored, wrong) -> None:
    stored({**TYPED, **wrong})
    assert live_bench.live_bench()["hotkey_stolen"] is True


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({}, CONFIRMED),
        ({"commands_on_a_button": ["interrupt"]}, PARTLY),
        ({"commands": ["interrupt"]}, PARTLY),
        ({"commands": ["interrupt"], "commands_on_a_button": ["interrupt"]}, REFUTED),
    ],
)
def test_the_key_is_judged_in_fields_and_on_buttons(stored, wrong, verdict) -> None:
    stored({**TYPED, **wrong})
    assert HOTKEY.judged({"live-bench": live_bench.live_bench()})[0] == verdict


def test_without_a_browser_the_key_is_not_judged(stored) -> None:
    stored(None)
    found = live_bench.live_bench()
    assert found["hotkey_stolen"] is None
    assert HOTKEY.judged({"live-bench": found}) == (
        NOT_HERE,
        "a browser was not here when the bench was measured",
    )


def test_the_table_made_beforehand_comes_on_top_of_the_middle_opening(stored) -> None:
    stored(TYPED)
    found = live_bench.startup_times()
    assert (found["cache_seconds"], found["entries"]) == (0.02, 23_094)
    assert found["before_seconds"] == pytest.approx(0.92)
    assert found["after_seconds"] == pytest.approx(0.901)
    assert (found["idle_threads_seconds"], found["idle_threads_work_ratio"]) == (0.002, 1.0)
