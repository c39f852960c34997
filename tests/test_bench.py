"""The benchmark's own workings: its statistics, its refusals, and a whole run with contenders that only sleep."""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cllm_lab as lab
from cllm_lab.model.compiled_pass import CompiledPass
from cllm_lab.model.parts import pass_kernels
from cllm_lab.views.benchmark import Benchmark
from tests.bench import __main__ as program
from tests.bench import cold_start, measure, mkl_products, our_products, products, results, workers
from tests.bench.machines import BUSY, CURVES, DOCUMENTED, HEADLINE, MIDDLE, Machine
from tests.bench.measure import Bench, Plan, Turns
from tests.bench.ours import OurStep
from tests.bench.summary import (
    DisagreementError,
    require_agreement,
    round_medians,
    round_ratios,
    spread_of,
)
from tests.bench.workers import OURS, NotRun, Worker
from tests.fake_benchmark import (
    BOOK_CONTENDERS,
    BOOK_MILLISECONDS,
    REASON,
    SMALL,
    BookWorker,
    book_results,
)
from tests.fake_contenders import fake

FAKE_PHASES = ("forward", "backward", "update")
SHORT = Turns(rounds=2, least=3, seconds=0.0)


class TestSummary:
    def test_spread(self) -> None:
        assert spread_of([5.0, 1.0, 2.0, 3.0, 4.0]) == {
            "median": 3.0,
            "lower_quartile": 2.0,
            "upper_quartile": 4.0,
            "minimum": 1.0,
            "repetitions": 5,
        }

    def test_noise_that_meets_a_whole_round_leaves_its_ratio_alone(self) -> None:
        ours = [[1.0, 1.0, 9.0], [10.0, 10.0, 10.0]]
        theirs = [[2.0, 2.0, 1.0], [20.0, 20.0, 20.0]]
        assert round_ratios(round_medians(theirs), round_medians(ours)) == [2.0, 2.0]

    def test_rounds_must_be_as_many(self) -> None:
        with pytest.raises(ValueError):
            round_ratios([1.0, 2.0], [1.0])

    def test_agreement(self) -> None:
        require_agreement({})
        require_agreement({"a": [6.0, 5.0, 4.0], "b": [6.005, 5.004, 4.003], "c": [5.995, 4.996, 3.997]})

    @pytest.mark.parametrize(
        "other", [[6.0, 5.0, 4.005], [6.0, 5.0], [6.0, 5.0, math.nan], [6.0, 5.0, math.inf]]
    )
    def test_disagreement_names_both_and_their_losses(self, other: list[float]) -> None:
        with pytest.raises(DisagreementError, match=r"b does not train .* a trains.*6\.00000.*4\.00000 nats"):
            require_agreement({"a": [6.0, 5.0, 4.0], "b": other})

    def test_losses_that_are_no_numbers_agree_with_nothing(self) -> None:
        with pytest.raises(DisagreementError):
            require_agreement({"a": [math.nan] * 3})
        with pytest.raises(DisagreementError):
            require_agreement({"a": [math.inf] * 3, "b": [math.inf] * 3})


class TestMachines:
    def test_every_curve_changes_its_size_alone_and_passes_the_middle(self) -> None:
        for size, machines in CURVES.items():
            assert MIDDLE in machines
            for machine in machines:
                assert replace(machine, **{size: getattr(MIDDLE, size)}) == MIDDLE
            assert len({machine.name for machine in machines}) == len(machines)

    def test_the_documented_machine_is_among_the_headline(self) -> None:
        sizes = (DOCUMENTED.d_model, DOCUMENTED.n_layers, DOCUMENTED.n_heads, DOCUMENTED.vocab_size)
        assert sizes == (512, 6, 8, 10_000)
        assert DOCUMENTED in HEADLINE
        assert set(BUSY) < set(HEADLINE)

    def test_peers_start_from_our_weights(self) -> None:
        ours = SMALL.model().params
        theirs = SMALL.weights()
        assert theirs.keys() == ours.keys()
        assert all(np.array_equal(theirs[name], ours[name]) for name in ours)


class Blas:
    """Stands in for MKL: products of float32 where two addresses, steps and transpositions say that operands lie."""

    def __init__(self) -> None:
        self.multiply_adds = 0

    def cblas_sgemm(self, layout: int, *given: Any) -> None:
        a_form, b_form, m, n, k, alpha, a, a_step, b, b_step, beta, out, out_step = given
        assert (layout, alpha, beta) == (mkl_products.ROW_MAJOR, 1.0, 0.0)
        x, y = _at(a, a_step, m, k, a_form), _at(b, b_step, k, n, b_form)
        np.matmul(x, y, out=_at(out, out_step, m, n, mkl_products.PLAIN))
        self.multiply_adds += m * k * n

    def cblas_sgemm_batch_strided(self, *given: Any) -> None:
        *sizes, alpha, a, a_step, a_next, b, b_step, b_next, beta, out, out_step, out_next, count = given
        for i in range(count):
            matrices = a + 4 * a_next * i, a_step, b + 4 * b_next * i, b_step
            self.cblas_sgemm(*sizes, alpha, *matrices, beta, out + 4 * out_next * i, out_step)


def _at(address: int, step: int, rows: int, columns: int, form: int) -> np.ndarray:
    if form == mkl_products.TRANSPOSED:
        return _at(address, step, columns, rows, mkl_products.PLAIN).T
    numbers = (ctypes.c_float * (step * (rows - 1) + columns)).from_address(address)
    return np.lib.stride_tricks.as_strided(np.frombuffer(numbers, np.float32), (rows, columns), (4 * step, 4))


class TestProducts:
    """The bare products are the products that a machine lists, all of them and nothing else."""

    MACHINE = Machine(d_model=24, n_layers=2, n_heads=3, vocab_size=31, batch_size=3, sequence_length=5)

    def test_through_numpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = 0
        matmul = np.matmul

        def note(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
            nonlocal made
            matmul(a, b, out=out)
            made += a.size * b.shape[-1]

        limit = products.LibraryProducts(self.MACHINE, 1)
        monkeypatch.setattr(np, "matmul", note)
        assert math.isnan(limit.step())
        assert made == self.MACHINE.multiply_adds
        for a, b, out in limit.calls:
            assert np.array_equal(out, matmul(a, b))

    def test_through_mkl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blas = Blas()
        monkeypatch.setattr(mkl_products, "load", lambda: blas)
        limit = mkl_products.MklProducts(self.MACHINE, 1)
        assert math.isnan(limit.step())
        assert blas.multiply_adds == self.MACHINE.multiply_adds
        for a, b, out in limit.calls:
            assert np.allclose(out, np.matmul(a, b), rtol=1e-5, atol=1e-5)

    def test_without_mkl_the_reason_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise PackageNotFoundError(name)

        for files, why in (
            (absent, "the package mkl is not installed"),
            (lambda name: [], "no library mkl_rt"),
        ):
            monkeypatch.setattr(mkl_products.importlib.metadata, "files", files)
            with pytest.raises(ImportError, match=why):
                mkl_products.MklProducts(self.MACHINE, 1)

    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_through_our_kernels(self, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
        threaded = partial(CompiledPass, n_threads=threads)
        monkeypatch.setattr(our_products, "CompiledPass", threaded)
        compiled = our_products.OurProducts(self.MACHINE, threads)
        made: dict[str, int] = dict.fromkeys(("by layer", "of weights"), 0)

        def twin(kind: str, a_turned: bool, b_turned: bool) -> Callable[..., None]:
            def multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray, handle: np.ndarray) -> None:
                x, y = a.T if a_turned else a, b.T if b_turned else b
                np.matmul(x, y, out=out)
                made[kind] += x.size * y.shape[1]

            return multiply

        for name in ("layer_forward", "layer_back", "output_forward", "output_back"):
            monkeypatch.setattr(our_products, name, getattr(our_products, name).py_func)
        for name, *turned in (
            ("multiply", False, False),
            ("multiply_by_transpose", False, True),
            ("multiply_transpose_by", True, False),
        ):
            monkeypatch.setattr(our_products, name, twin("by layer", *turned))
        monkeypatch.setattr(pass_kernels, "weight_gradient", twin("of weights", True, False))
        monkeypatch.setattr(our_products, "run_together", lambda jobs: [job() for job in jobs])
        interpreted = our_products.OurProducts(self.MACHINE, threads)
        assert math.isnan(interpreted.step())

        of_weights = [
            math.prod(shape) * n for kind, shape, n in self.MACHINE.products() if kind == "weight gradient"
        ]
        assert made["of weights"] == sum(of_weights)
        assert sum(made.values()) == self.MACHINE.multiply_adds

        monkeypatch.undo()
        assert math.isnan(compiled.step())
        for name, expected in vars(interpreted.kept).items():
            assert np.allclose(getattr(compiled.kept, name), expected, rtol=1e-4, atol=1e-4), name
        assert not any(np.any(compiled.grads[name]) for name in compiled.grads if ".b_" in name)
        weights = [name for name in interpreted.grads if ".w_" in name]
        assert len(weights) == 4 * self.MACHINE.n_layers
        for name in [*weights, "token_embedding"]:
            assert np.any(interpreted.grads[name])
            assert np.allclose(compiled.grads[name], interpreted.grads[name], rtol=1e-4, atol=1e-4), name


class TestOurStep:
    """The step taken apart is the step."""

    def test_its_parts_in_order_leave_what_a_step_leaves(self) -> None:
        whole, apart = OurStep(SMALL, 1), OurStep(SMALL, 1)
        for _ in range(3):
            whole.step()
            apart.forward()
            apart.backward()
            apart.update()
        assert isinstance(apart._pass, CompiledPass)
        assert np.array_equal(apart._trainer.params.flat, whole._trainer.params.flat)


class TestWorker:
    def test_it_is_asked_and_answers(self) -> None:
        worker = Worker(fake(seconds=0.002, megabytes=80), SMALL, 1)
        try:
            assert worker.facts["losses"] == [3.0, 2.0, 1.0]
            assert worker.facts["start_seconds"] >= 0.002
            seconds = worker.steps(3, 0.0)
            assert len(seconds) == 3
            assert min(seconds) >= 0.002
            assert len(worker.steps(1, 0.05)) > 1
            phases = worker.phases(4, 0.0)
            assert {name: len(taken) for name, taken in phases.items()} == dict.fromkeys(FAKE_PHASES, 4)
            assert min(phases["backward"]) >= 0.004
            assert 80_000_000 <= worker.peak_memory() < 200_000_000
        finally:
            worker.close()

    def test_what_does_not_train_has_no_losses(self) -> None:
        worker = Worker(fake(trains=False, losses=[math.nan]), SMALL, 1)
        worker.close()
        assert worker.facts["losses"] == []

    @pytest.mark.parametrize("waiting", [None, 3.0])
    def test_its_libraries_find_the_threads_they_may_use_and_its_own_variables(
        self, monkeypatch: pytest.MonkeyPatch, waiting: float | None
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.setenv("KMP_BLOCKTIME", "7")
        before = dict(os.environ)
        own = {} if waiting is None else {"KMP_BLOCKTIME": str(waiting)}
        entry = replace(fake("Environment"), environment=own)
        for threads in {1, workers.all_threads()}:
            worker = Worker(entry, SMALL, threads)
            worker.close()
            assert worker.facts["losses"] == [threads, threads, 7.0 if waiting is None else waiting]
        assert dict(os.environ) == before

    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            (
                replace(fake(), module="no_such_library"),
                "ModuleNotFoundError: No module named 'no_such_library'",
            ),
            (fake(fails_at=2), r"RuntimeError: no compiler at g\+\+$"),
            (fake(dies_at=2), "its process ended with exit code 7"),
            (replace(fake(), blas="no such blas"), "its process did not load no such blas"),
        ],
    )
    def test_one_that_does_not_start_says_why(self, entry: workers.Entry, why: str) -> None:
        with pytest.raises(NotRun, match=why):
            Worker(entry, SMALL, 1)

    @pytest.mark.parametrize(
        ("entry", "why"), [(fake(fails_at=5), "RuntimeError"), (fake(dies_at=5), "code 7")]
    )
    def test_one_that_ends_early_says_why(self, entry: workers.Entry, why: str) -> None:
        worker = Worker(entry, SMALL, 1)
        with pytest.raises(NotRun, match=why):
            worker.steps(10, 0.0)

    def test_one_that_does_not_answer_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = Worker(fake(seconds=0.2), SMALL, 1)
        monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(workers, "LEAVING_SECONDS", 0.05)
        with pytest.raises(NotRun, match="no answer within"):
            worker.steps(1_000, 0.0)
        assert not worker._process.is_alive()

    def test_a_reason_names_no_folder(self) -> None:
        error = OSError("cannot read '/root/secret place/x.so' or C:\\Users\\name\\y.dll: 1/2 of it")
        assert workers.reason(error) == "OSError: cannot read 'x.so' or y.dll: 1/2 of it"


def rows_by_contender(bench: Bench) -> dict[str, measure.Row]:
    return {row["contender"]: row for row in bench.steps}


class TestComparison:
    def test_contenders_that_fail_leave_the_others_their_comparison(self) -> None:
        entries = {
            OURS: fake(seconds=0.002),
            "slow": fake(seconds=0.008),
            "absent": replace(fake(), module="no_such_library"),
            "broken": fake(fails_at=6),
            "limit": fake(seconds=0.0, trains=False, losses=[math.nan]),
        }
        lines: list[str] = []
        bench = Bench(entries, lines.append)
        bench.compare(SMALL, tuple(entries), 1, SHORT)
        rows = rows_by_contender(bench)
        assert list(rows) == [OURS, "slow", "limit"]
        assert {row["contender"]: row["reason"].partition(":")[0] for row in bench.not_run} == {
            "absent": "ModuleNotFoundError",
            "broken": "RuntimeError",
        }
        assert rows[OURS]["round_ratios"] == [1.0, 1.0]
        slow = rows["slow"]
        assert slow["round_ratios"] == [
            their / our for their, our in zip(slow["round_medians"], rows[OURS]["round_medians"], strict=True)
        ]
        assert slow["ratio"] == pytest.approx(sum(slow["round_ratios"]) / 2)
        assert slow["ratio"] > 1.0
        assert slow["repetitions"] == 6
        for name in entries:
            assert any(name in line for line in lines)

    def test_without_ours_there_are_times_but_no_ratios(self) -> None:
        bench = Bench({OURS: replace(fake(), module="no_such_library"), "peer": fake()}, lambda line: None)
        bench.compare(SMALL, (OURS, "peer"), 1, SHORT)
        (row,) = bench.steps
        assert (row["contender"], row["ratio"], row["round_ratios"]) == ("peer", None, [])

    def test_contenders_that_train_different_machines_are_not_compared(self) -> None:
        entries = {OURS: fake(), "peer": fake(losses=[3.0, 2.0, 1.01])}
        bench = Bench(entries, lambda line: None)
        with pytest.raises(DisagreementError, match="peer does not train the machine that cllm_lab trains"):
            bench.compare(SMALL, tuple(entries), 1, SHORT)
        assert bench.steps == []

    def test_every_round_has_a_turn_of_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        turns: list[str] = []

        class Noting:
            def __init__(self, entry: workers.Entry, machine: Machine, threads: int) -> None:
                self.name = entry.maker
                self.facts = {"losses": [1.0], "start_seconds": 0.0, "blas": []}

            def steps(self, least: int, seconds: float) -> list[float]:
                turns.append(self.name)
                return [1.0] * least

            def peak_memory(self) -> int:
                return 0

            def close(self) -> None:
                turns.append("end")

        monkeypatch.setattr(measure, "Worker", Noting)
        names = (OURS, "a", "b")
        bench = Bench({name: fake(name) for name in names}, lambda line: None)
        bench.compare(SMALL, names, 1, Turns(rounds=3, least=1, seconds=0.0))
        assert turns == [*names * 3, "end", "end", "end"]

    def test_a_neighbour_is_there_for_as_long_as_the_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def note(command: list[str]) -> subprocess.Popen[bytes]:
            started.append(popen(command))
            return started[-1]

        monkeypatch.setattr(measure.subprocess, "Popen", note)
        with measure.neighbour():
            (process,) = started
            assert process.poll() is None
        assert process.returncode not in (None, 0)

    def test_the_plans(self) -> None:
        quick, full = measure.quick_plan(), measure.full_plan()
        assert quick.headline == full.headline == HEADLINE
        assert quick.threads == (workers.all_threads(),)
        assert full.threads == tuple(sorted({1, workers.all_threads()}))
        assert (full.phases, full.busy, full.cold_starts) == ((DOCUMENTED,), BUSY, 3)
        assert full.curves == CURVES
        assert not quick.curves and not quick.phases and not quick.busy and not quick.cold_starts


@pytest.fixture(scope="module")
def stored() -> dict:
    return book_results()


class TestBooks:
    """The whole plan with workers that take exactly what they are told."""

    def test_a_machine_is_measured_once_however_many_pictures_show_it(self, stored: dict) -> None:
        places = [(row["machine"], row["threads"], row["contender"]) for row in stored["steps"]]
        assert len(places) == len(set(places)) == (2 * 2 + 1) * len(BOOK_MILLISECONDS)

    def test_ratios(self, stored: dict) -> None:
        for row in stored["steps"]:
            expected = BOOK_MILLISECONDS[row["contender"]] / BOOK_MILLISECONDS[OURS]
            assert row["round_ratios"] == pytest.approx([expected] * 3)
            assert row["ratio"] == pytest.approx(expected)

    def test_slowdown_is_busy_over_quiet(self, stored: dict) -> None:
        # Turns alternate between quiet and busy, and every second one takes twice as long.
        busy = [row for row in stored["busy"] if row["state"] == "busy"]
        assert [row["contender"] for row in busy] == list(measure.PAIR)
        assert all(row["slowdown"] == pytest.approx(2.0) for row in busy)

    def test_phases_are_those_of_the_pair(self, stored: dict) -> None:
        found = [(row["contender"], row["phase"]) for row in stored["phases"]]
        assert found == [(name, phase) for name in measure.PAIR for phase in FAKE_PHASES]

    def test_cold_starts(self, stored: dict) -> None:
        found = [(row["contender"], row["kernel_cache"], row["waited_for"]) for row in stored["cold_start"]]
        ours = [(OURS, cache, waited) for cache in ("empty", "warm") for waited in ("import", "first step")]
        assert found == [*ours, *((measure.EAGER, "none", waited) for waited in ("import", "first step"))]
        assert all(row["repetitions"] == 3 for row in stored["cold_start"])

    def test_what_was_not_run_is_in_the_books_with_its_reason(self, stored: dict) -> None:
        assert {(row["contender"], row["reason"]) for row in stored["not_run"]} == {
            ("PyTorch compiled", REASON)
        }

    def test_nothing_tells_whose_machine_it_was(self, stored: dict) -> None:
        text = json.dumps(stored)
        assert platform.node() not in text
        assert str(Path.home()) not in text
        assert sys.prefix not in text
        assert stored["machine"]["python"] == platform.python_version()
        assert stored["versions"]["numpy"] == np.__version__
        assert stored["machine"]["cores"] == os.cpu_count()

    def test_numbers_that_are_not_finite_are_not_stored(self, stored: dict, tmp_path: Path) -> None:
        with pytest.raises(ValueError):
            results.store({**stored, "claims": [math.nan]}, tmp_path / "x.json")
        assert list(tmp_path.iterdir()) == []


def test_each_cold_start_has_an_empty_cache_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def note(name: str, variables: dict[str, str]) -> dict[str, float]:
        folders.append(variables[cold_start.KERNEL_CACHE])
        assert (Path(folders[-1]).exists()) == (folders.count(folders[-1]) > 1)
        Path(folders[-1]).mkdir(exist_ok=True)
        return {"import": 1.0}

    monkeypatch.setattr(cold_start, "_in_a_fresh_process", note)
    cold_start.cold_starts(OURS, 3)
    assert len(set(folders[:3])) == 3
    assert set(folders[3:]) == {folders[2]}


def test_a_cold_start_that_fails_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PAIR", (measure.EAGER,))
    monkeypatch.setattr(cold_start, "_COMMAND", [sys.executable, "-c", "raise SystemExit(3)"])
    bench = Bench({}, lambda line: None)
    bench.start_cold(2)
    assert bench.cold_start == []
    (row,) = bench.not_run
    assert row["reason"].startswith("CalledProcessError")
    assert sys.prefix not in row["reason"]


class TestProgram:
    @pytest.fixture
    def plan(self, monkeypatch: pytest.MonkeyPatch) -> Plan:
        plan = Plan(headline=(SMALL,), threads=(1,), turns=SHORT)
        monkeypatch.setattr(program, "quick_plan", lambda: plan)
        monkeypatch.setattr(program, "full_plan", lambda: plan)
        return plan

    @pytest.fixture
    def books(self, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measure, "Worker", BookWorker)
        monkeypatch.setattr(program, "CONTENDERS", BOOK_CONTENDERS)

    @pytest.mark.usefixtures("plan")
    def test_a_quick_run_from_end_to_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        entries = {OURS: fake(seconds=0.001), "peer": fake(seconds=0.002)}
        monkeypatch.setattr(program, "CONTENDERS", entries)
        saved, drawn = tmp_path / "found.json", tmp_path / "found.png"
        program.main(["--quick", "--save", str(saved), "--picture", str(drawn)])
        printed = capsys.readouterr()
        for name in entries:
            assert name in printed.out
            assert name in printed.err
        assert SMALL.name in printed.out
        found = lab.benchmark(saved)
        assert list(found.steps["contender"]) == [OURS, "peer"]
        assert found.steps["ratio"][1] > 1.0
        assert drawn.read_bytes().startswith(b"\x89PNG")

    def test_everything_that_was_measured_is_printed(self, stored: dict) -> None:
        text = "\n\n".join(program.tables(Benchmark.of(stored)))
        for said in (
            f"{SMALL.name}, 1 thread\n",
            f"{SMALL.name}, 2 threads\n",
            "The step taken apart",
            "document 003 says of forward: 10 to 20 ms",
            "Beside a busy process",
            "A fresh start",
            f"PyTorch compiled {REASON}",
        ):
            assert text.count(said) == 1
        # A line for each machine and number of threads: two machines twice, and one of a curve.
        assert text.count("\ncllm_lab takes 2.00 times its bare products\n") == 5

    @pytest.mark.usefixtures("books")
    def test_a_quick_run_stores_only_where_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(program, "store", lambda *given: pytest.fail("stored"))
        program.main(["--quick"])

    @pytest.mark.usefixtures("books")
    def test_a_full_run_stores_with_the_data_and_draws_beside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(program, "data_path", lambda name: tmp_path / name)
        program.main([])
        assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "benchmark.png"}
        program.main(["--save", str(tmp_path / "other.json")])
        assert (tmp_path / "other.json").exists()
        assert (tmp_path / "other.png").exists()

    @pytest.mark.usefixtures("books")
    def test_different_machines_end_the_program_before_anything_is_stored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(losses: object) -> None:
            raise DisagreementError("peer does not train the machine")

        monkeypatch.setattr(measure, "require_agreement", refuse)
        with pytest.raises(SystemExit, match="no comparison: peer does not train the machine"):
            program.main(["--quick", "--save", str(tmp_path / "x.json")])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("books")
    def test_a_folder_that_is_not_there_is_said_before_anything_runs(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            program.main(["--quick", "--save", str(tmp_path / "absent" / "x.json")])
        said = capsys.readouterr().err
        assert "there is no folder" in said
        assert "started" not in said
