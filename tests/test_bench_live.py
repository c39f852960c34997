"""The measurements of the live bench: what is computed from moments and counts, what is promised, what is stored."""

from __future__ import annotations

import copy
import json
import statistics
import threading
from typing import Any

import pytest

from cllm_lab.provenance import PACKAGES, provenance
from cllm_lab.resources import data_path
from tests.bench_live import __main__ as program
from tests.bench_live import opening, results
from tests.bench_live.browser import NoBrowserError
from tests.bench_live.figures import beyond_the_step, median_ratio, rate, step_seconds, waits
from tests.bench_live.inside import Doorbell, Watch, control, threads
from tests.bench_live.measure import QUICK
from tests.bench_live.results import Promise, noted, promises, store

STORED = json.loads(data_path(program.STORED).read_text(encoding="utf-8"))


class TestFigures:
    def test_the_step_that_is_being_made_is_nobodys_fault(self) -> None:
        assert beyond_the_step(10.0, 10.75, [9.5, 10.5]) == 0.25

    def test_only_the_first_step_after_the_press_is_pardoned(self) -> None:
        assert beyond_the_step(10.0, 12.0, [10.5, 11.5]) == 1.5

    def test_where_no_step_was_being_made_all_the_time_counts(self) -> None:
        assert beyond_the_step(10.0, 10.75, [9.5]) == 0.75
        assert beyond_the_step(10.0, 10.75, [9.5, 11.0]) == 0.75

    def test_a_halt_before_the_press_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"halted must not be before pressed; got 9\.0 and 10\.0"):
            beyond_the_step(10.0, 9.0, [])

    def test_each_press_has_its_own_answer(self) -> None:
        assert waits([1.0, 2.0], [1.5, 4.0]) == [0.5, 2.0]

    @pytest.mark.parametrize(
        ("pressed", "answered", "said"),
        [([1.0, 2.0], [1.5], "2 presses have 1 answers"), ([1.0], [0.5], "before its press")],
    )
    def test_answers_that_belong_to_no_press_are_refused(self, pressed, answered, said) -> None:
        with pytest.raises(ValueError, match=said):
            waits(pressed, answered)

    def test_steps_and_rates(self) -> None:
        assert step_seconds([1.0, 1.5, 2.5]) == [0.5, 1.0]
        assert rate((10.0, 100), (12.0, 150)) == 25.0
        with pytest.raises(ValueError, match="later"):
            rate((10.0, 100), (10.0, 150))

    def test_noise_that_meets_a_whole_round_leaves_its_ratio_alone(self) -> None:
        assert median_ratio([80.0, 8.0, 90.0], [100.0, 10.0, 100.0]) == 0.8
        with pytest.raises(ValueError, match="zip"):
            median_ratio([1.0], [1.0, 2.0])


class TestInside:
    def test_threads_of_ours_are_known_by_their_name(self) -> None:
        ending = threading.Event()
        one = threading.Thread(target=ending.wait, name="cllm_lab of this test")
        one.start()
        found = threads()
        ending.set()
        one.join()
        assert "MainThread (threading)" in found["python"]
        assert "MainThread" not in found["ours"]
        assert one.name in found["ours"]
        assert one.name not in threads()["ours"]
        assert found["process"] > 1

    def test_a_control_is_found_by_its_class_wherever_it_stands(self) -> None:
        import ipywidgets

        inner = ipywidgets.Button()
        inner.add_class("cllm-inner")
        assert control(ipywidgets.VBox([ipywidgets.HBox([inner])]), "inner") == inner.model_id
        with pytest.raises(LookupError, match="cllm-outer"):
            control(ipywidgets.VBox([inner]), "outer")

    def test_a_watch_sees_the_end_of_a_step_before_what_follows_and_a_halt_after_it(self) -> None:
        import time

        class Bench:
            class runner:
                def _after_step(*arguments: Any) -> None:
                    middle.append(time.monotonic())

                def _halt(*arguments: Any) -> None:
                    middle.append(time.monotonic())

        middle: list[float] = []
        watch = Watch(Bench)
        Bench.runner._after_step("trainer", "record")
        Bench.runner._halt("stopped")
        assert watch.step_ends[0] <= middle[0] <= middle[1] <= watch.halts[0]
        assert watch.moments() == {"step_ends": watch.step_ends, "halts": watch.halts}

    def test_a_doorbell_notes_when_it_was_pressed(self) -> None:
        bell = Doorbell()
        bell._button.click()
        assert len(bell.moments) == 1
        assert bell.id == bell._button.model_id


class TestOpening:
    def test_each_kind_gives_seconds(self) -> None:
        for kind in ("values", "bench"):
            found = opening.KINDS[kind]()
            assert all(figure >= 0.0 for figure in found.values()), kind
        assert opening.values()["historical_entries"] == 23_094

    def test_idle_threads_end(self, monkeypatch) -> None:
        monkeypatch.setattr(opening, "REPETITIONS", 2)
        before = set(threading.enumerate())
        assert opening.idle_threads().keys() == {"making", "work_ratio"}
        assert set(threading.enumerate()) <= before

    def test_the_figures_of_several_processes_stand_together(self) -> None:
        found = opening.in_fresh_processes("values", 2)
        assert found.keys() == {"lazy", "historical", "exact", "historical_entries", "process"}
        assert all(len(figures) == 2 for figures in found.values())
        assert all(whole > part for whole, part in zip(found["process"], found["historical"], strict=True))


def small_results() -> dict[str, Any]:
    """Results in which every promise just holds."""
    quiet = {"ours": [], "numba_imported": False}
    kernels = [
        {
            "stops": [{"beyond_the_step": 0.1}, {"beyond_the_step": 0.24}],
            "answers": [0.1, 0.49],
            "presses": [0.49, 0.1],
            "threads": {"before_start": quiet, "after_stop": [quiet, quiet]},
        }
        for _ in range(2)
    ]
    return {
        "documents_size": kernels,
        "drawing": {"share_of_alone": 0.8, "drawings": [4.0, 6.0]},
        "memory": {"growth": 1_900_000, "updates": 1_000},
        "page": {"growth": 2_900_000, "updates": 1_000},
    }


def broken(change) -> list[str]:
    found = copy.deepcopy(small_results())
    change(found)
    return [promise.what for promise in promises(found) if not promise.holds]


class TestPromises:
    def test_a_limit_is_a_limit(self) -> None:
        assert Promise("s", 0.24, 0.25).holds
        assert not Promise("s", 0.25, 0.25).holds
        assert Promise("Hz", 5.0, 5.0, at_least=True).holds
        assert not Promise("Hz", 4.9, 5.0, at_least=True).holds
        assert str(Promise("s", 0.3, 0.25)) == "s: 0.3, under 0.25: DOES NOT HOLD"
        assert str(Promise("Hz", 6.0, 5.0, at_least=True)) == "Hz: 6, at least 5: holds"

    def test_all_hold(self) -> None:
        assert broken(lambda found: None) == []

    @pytest.mark.parametrize(
        ("what", "change"),
        [
            ("Stop", lambda r: r["documents_size"][1]["stops"][0].update(beyond_the_step=0.3)),
            ("1 \\+ 1", lambda r: r["documents_size"][1]["answers"].append(0.6)),
            ("button", lambda r: r["documents_size"][1]["presses"].append(0.6)),
            (
                "ours before",
                lambda r: r["documents_size"][1]["threads"].update(
                    before_start={"ours": ["cllm_lab x"], "numba_imported": False}
                ),
            ),
            (
                "compiler",
                lambda r: r["documents_size"][1]["threads"].update(
                    before_start={"ours": [], "numba_imported": True}
                ),
            ),
            (
                "ours after",
                lambda r: r["documents_size"][1]["threads"]["after_stop"].append({"ours": ["cllm_lab x"]}),
            ),
            ("share", lambda r: r["drawing"].update(share_of_alone=0.7)),
            ("drawings", lambda r: r["drawing"].update(drawings=[4.0, 5.0])),
            ("kernel's memory", lambda r: r["memory"].update(growth=2_100_000)),
            ("page's memory", lambda r: r["page"].update(growth=3_100_000)),
        ],
    )
    def test_one_that_does_not_is_named(self, what, change) -> None:
        import re

        (named,) = broken(change)
        assert re.search(what, named)


class TestProgram:
    def test_a_measurement_is_noted_with_the_load(self, monkeypatch) -> None:
        loads = iter([(1.0, 9, 9), (2.0, 9, 9)])
        monkeypatch.setattr(results.os, "getloadavg", lambda: next(loads))
        found = noted(lambda: {"figure": 3})
        assert (found["figure"], found["load"]) == (3, {"before": 1.0, "after": 2.0})
        assert found["measured_in"] >= 0.0

    def test_what_is_not_finite_leaves_the_old_file(self, tmp_path) -> None:
        path = tmp_path / "live_bench.json"
        store({"x": 1.0}, path)
        with pytest.raises(ValueError, match="JSON compliant"):
            store({"x": float("inf")}, path)
        assert json.loads(path.read_text()) == {"x": 1.0}
        assert [each.name for each in tmp_path.iterdir()] == ["live_bench.json"]

    @pytest.fixture
    def pretended(self, monkeypatch, tmp_path) -> list[Any]:
        """No kernel is started: the measurements give small figures."""
        kernels = small_results()["documents_size"]
        calls: list[Any] = []

        def documents(plan, overlay):
            calls.append((plan, overlay))
            return kernels[0]

        monkeypatch.setattr(program.subprocess, "run", lambda *a, **k: calls.append("compile"))
        monkeypatch.setattr(program, "OLDEST_KERNEL", tmp_path)
        monkeypatch.setattr(program, "in_fresh_processes", lambda kind, times: {"seconds": [1.0] * times})
        monkeypatch.setattr(program.measure, "first_curves", lambda plan: {})
        monkeypatch.setattr(program.measure, "documents_size", documents)
        monkeypatch.setattr(program.measure, "drawing", lambda plan: small_results()["drawing"])
        monkeypatch.setattr(program.measure, "memory", lambda plan: small_results()["memory"])
        monkeypatch.setattr(program, "text_fields", lambda: {"fields": 8})
        monkeypatch.setattr(program, "page_memory", lambda plan: small_results()["page"])
        return calls

    def test_everything_is_measured_with_both_kernels_and_stored(self, pretended, tmp_path, capsys) -> None:
        path = tmp_path / "found.json"
        program.main(["--quick", "--save", str(path)])
        assert pretended == ["compile", (QUICK, None), (QUICK, tmp_path)]
        stored = json.loads(path.read_text())
        assert len(stored["documents_size"]) == 2
        assert stored["opening"].keys() == opening.KINDS.keys()
        assert stored["machine"] == provenance()["machine"]
        assert stored["versions"].keys() == {*PACKAGES, *results.PACKAGES}
        assert stored["not_measured"] == {}
        assert "drawings a second: 5, at least 5: holds" in capsys.readouterr().out

    def test_what_cannot_be_had_is_said(self, pretended, monkeypatch, tmp_path, capsys) -> None:
        def none():
            raise NoBrowserError("Chromium is not installed")

        monkeypatch.setattr(program, "text_fields", none)
        monkeypatch.setattr(program, "OLDEST_KERNEL", tmp_path / "nowhere")
        program.main(["--quick"])
        printed = capsys.readouterr().out
        assert "text fields, the page's memory: not measured: Chromium is not installed" in printed
        assert "oldest ipykernel: not measured" in printed
        assert [each.name for each in tmp_path.iterdir()] == []

    def test_a_folder_that_is_not_there_is_refused_at_once(self, tmp_path, capsys) -> None:
        with pytest.raises(SystemExit):
            program.main(["--save", str(tmp_path / "no" / "found.json")])
        assert "there is no folder" in capsys.readouterr().err


class TestStored:
    def test_it_is_a_whole_run_of_the_documents_machine(self) -> None:
        assert STORED["not_measured"] == {}
        assert len({kernel["ipykernel"] for kernel in STORED["documents_size"]}) == 2
        for kernel in STORED["documents_size"]:
            sizes = dict(kernel["machine"])
            assert sizes.pop("parameters") > 24_000_000
            assert sizes.pop("steps_an_epoch") > 1
            assert list(sizes.values()) == [10_000, 512, 8, 6, 2_048, 4, 32]
        assert STORED["memory"]["updates"] == STORED["memory"]["arrived"] == 10_000

    def test_the_promises_hold_in_it(self) -> None:
        assert [str(promise) for promise in promises(STORED) if not promise.holds] == []

    def test_the_compared_shares_are_those_of_its_rounds(self) -> None:
        drawing = STORED["drawing"]
        shares = [one / other for one, other in zip(drawing["drawn"], drawing["alone"], strict=True)]
        assert drawing["share_of_alone"] == statistics.median(shares)
