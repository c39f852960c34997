"""The stored benchmark as tables and pictures, held against a run whose every time is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas
import pytest
from matplotlib.colors import to_rgba

import cllm_lab as lab
from cllm_lab.resources import data_path
from cllm_lab.views.benchmark import Benchmark, benchmark_bars, benchmark_curves, benchmark_summary
from tests.bench.machines import CURVES, HEADLINE
from tests.bench.results import store
from tests.bench.workers import CONTENDERS, MKL_PRODUCTS, OPENBLAS_PRODUCTS
from tests.fake_benchmark import BOOK_MILLISECONDS, BOOK_PLAN, REASON, SMALL, WIDE, book_results

TRAINING = ["cllm_lab", "PyTorch eager", "JAX jitted"]


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return book_results()


@pytest.fixture(scope="module")
def results(stored: dict[str, Any]) -> Benchmark:
    return Benchmark.of(stored)


@pytest.fixture(scope="module")
def with_libraries(stored: dict[str, Any]) -> Benchmark:
    """The same with the products of two libraries, those of MKL on the first machine alone."""
    steps = list(stored["steps"])
    for row in stored["steps"]:
        if row["contender"] == "bare products":
            steps.append({**row, "contender": OPENBLAS_PRODUCTS, "median": 1.5 * row["median"]})
            if row["machine"] == SMALL.name:
                steps.append({**row, "contender": MKL_PRODUCTS, "median": 0.5 * row["median"]})
    return Benchmark.of({**stored, "steps": steps})


class TestReader:
    def test_what_was_stored_is_read(self, stored: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "found.json"
        store(stored, path)
        found = lab.benchmark(path)
        for name in ("steps", "phases", "busy", "cold_start", "not_run", "claims"):
            pandas.testing.assert_frame_equal(getattr(found, name), pandas.DataFrame(stored[name]))
        assert found.headline == (SMALL.name, WIDE.name)
        assert found.curves == {
            size: tuple(m.name for m in machines) for size, machines in BOOK_PLAN.curves.items()
        }
        assert (found.reference, found.bare_products, found.threads) == ("cllm_lab", "bare products", (1, 2))
        assert found.about["machine"] == stored["machine"]
        assert set(found.not_run["reason"]) == {REASON}

    def test_what_is_no_benchmark_is_refused(self, stored: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "found.json"
        lacking = {name: value for name, value in stored.items() if name not in ("busy", "steps")}
        path.write_text(json.dumps(lacking), encoding="utf-8")
        with pytest.raises(ValueError, match="lack busy, steps"):
            lab.benchmark(path)
        path.write_text("[]", encoding="utf-8")
        with pytest.raises(ValueError, match=r"found\.json holds no results of the benchmark but a list"):
            lab.benchmark(path)
        with pytest.raises(FileNotFoundError):
            lab.benchmark(tmp_path / "absent.json")

    @pytest.mark.parametrize(("threads", "used"), [(None, 2), (2, 2), (1, 1)])
    def test_milliseconds_and_ratios(self, results: Benchmark, threads: int | None, used: int) -> None:
        milliseconds, ratios = results.milliseconds(threads), results.ratios(threads)
        assert list(milliseconds.index) == list(ratios.index) == [SMALL.name, WIDE.name]
        assert list(milliseconds.columns) == list(BOOK_MILLISECONDS)
        for name, expected in BOOK_MILLISECONDS.items():
            # Pooled over rounds of which one was twice as slow: 0.9, 1, 1.2 twice and 1.8, 2, 2.4 once.
            assert milliseconds[name].tolist() == pytest.approx(
                [1.2 * expected / used, 2.4 * expected / used]
            )
            assert ratios[name].tolist() == pytest.approx([expected / 2.0] * 2)
        least = results.milliseconds(threads, "minimum")
        assert least.loc[SMALL.name, "cllm_lab"] == pytest.approx(0.9 * 2.0 / used)

    def test_the_step_over_its_products_is_the_median_of_the_quotients_of_rounds(
        self, stored: dict[str, Any]
    ) -> None:
        steps = []
        for row in stored["steps"]:
            rounds = row["round_medians"]
            if row["contender"] == "bare products" and row["threads"] == 2:
                # Quotients of 8, 3 and 2, of which the quotient of the medians is 2.
                rounds = [rounds[0] * 2 / 8, rounds[1] * 2 / 3, rounds[2]]
            steps.append({**row, "round_medians": rounds})
        found = Benchmark.of({**stored, "steps": steps})
        assert found.over_products(1)[[SMALL.name, WIDE.name]].tolist() == pytest.approx([2.0, 2.0])
        over = found.over_products()
        assert set(over.index) == {row["machine"] for row in steps}
        assert over.tolist() == pytest.approx([3.0] * len(over))

    def test_without_the_products_on_a_machine_there_is_no_quotient(self, stored: dict[str, Any]) -> None:
        steps = [r for r in stored["steps"] if (r["machine"], r["contender"]) != (WIDE.name, "bare products")]
        assert list(Benchmark.of({**stored, "steps": steps}).over_products(1).index) == [SMALL.name]

    def test_a_contender_that_was_not_run_on_a_machine_leaves_a_gap(self, stored: dict[str, Any]) -> None:
        steps = [r for r in stored["steps"] if (r["machine"], r["contender"]) != (WIDE.name, "JAX jitted")]
        found = Benchmark.of({**stored, "steps": steps})
        assert math.isnan(found.milliseconds().loc[WIDE.name, "JAX jitted"])
        assert f"{WIDE.name}: cllm_lab" in benchmark_bars(found).words
        assert "JAX jitted" not in benchmark_bars(found).words.splitlines()[2]

    def test_threads_that_were_not_measured_are_refused(self, results: Benchmark) -> None:
        bars = partial(benchmark_bars, results)
        for ask in (results.milliseconds, results.ratios, results.over_products, bars):
            with pytest.raises(ValueError, match="nothing was measured with threads=7; there is 1 and 2"):
                ask(7)


class TestSummary:
    def test_a_row_for_each_machine_and_number_of_threads(self, results: Benchmark) -> None:
        heading, rule, *rows = benchmark_summary(results).splitlines()
        assert heading.count("|") == rule.count("|") == rows[0].count("|")
        assert [row.split(" | ")[:2] for row in rows] == [
            [f"| {machine.name}", threads] for machine in (SMALL, WIDE) for threads in ("1", "2")
        ]
        assert heading.endswith("| ratio | step over products | bare products |")
        assert rows[0].endswith(" | 2.4 | 3.6 (PyTorch eager) | 1.50 | 2.00 | 1.2 |")

    def test_the_fastest_other_is_by_ratio(self, stored: dict[str, Any]) -> None:
        steps = [{**r, "ratio": 1.25} if r["contender"] == "JAX jitted" else r for r in stored["steps"]]
        row = benchmark_summary(Benchmark.of({**stored, "steps": steps})).splitlines()[2]
        assert row.endswith(" | 2.4 | 4.8 (JAX jitted) | 1.25 | 2.00 | 1.2 |")

    def test_the_products_of_libraries_have_columns_of_their_own_and_gaps(
        self, with_libraries: Benchmark
    ) -> None:
        heading, _, *rows = benchmark_summary(with_libraries).splitlines()
        assert heading.endswith(f"| bare products | {OPENBLAS_PRODUCTS} | {MKL_PRODUCTS} |")
        assert rows[0].endswith(" | 2.00 | 1.2 | 1.8 | 0.6 |")
        assert rows[2].endswith(" | 2.00 | 2.4 | 3.6 |  |")

    def test_results_that_name_no_products_of_ours_have_no_quotient(self, stored: dict[str, Any]) -> None:
        unnamed = {name: value for name, value in stored.items() if name != "bare_products"}
        row = benchmark_summary(Benchmark.of(unnamed)).splitlines()[2]
        assert row.endswith(" | 2.4 | 3.6 (PyTorch eager) | 1.50 |  | 1.2 |")

    def test_a_machine_that_we_did_not_run_has_no_row(self, stored: dict[str, Any]) -> None:
        steps = [r for r in stored["steps"] if (r["machine"], r["contender"]) != (WIDE.name, "cllm_lab")]
        assert WIDE.name not in benchmark_summary(Benchmark.of({**stored, "steps": steps}))


class TestBars:
    def test_a_panel_per_machine_and_a_bar_per_contender(self, results: Benchmark) -> None:
        picture = benchmark_bars(results, threads=1)
        assert [axes.get_title(loc="left") for axes in picture.axes] == [SMALL.name, WIDE.name]
        left, right = ([label.get_text() for label in axes.get_yticklabels()] for axes in picture.axes)
        assert (left, right) == (TRAINING, [])
        for axes, machine in zip(picture.axes, (SMALL, WIDE), strict=True):
            expected = results.milliseconds(1).loc[machine.name]
            assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(expected[TRAINING]))
            assert len({bar.get_facecolor() for bar in axes.patches}) == len(TRAINING)
            (limit,) = [line for line in axes.lines if str(line.get_label()).startswith("bare products")]
            assert list(limit.get_xdata()) == pytest.approx([expected["bare products"]] * 2)
            written = [text.get_text() for text in axes.texts]
            assert [float(text) for text in written] == pytest.approx(list(expected[TRAINING]), rel=5e-3)

    def test_a_limit_has_one_line_style_in_every_panel_and_a_short_name(
        self, with_libraries: Benchmark
    ) -> None:
        left, right = (
            {
                str(line.get_label()).rpartition(" ")[0]: line
                for line in axes.lines
                if line.get_label()[0] != "_"
            }
            for axes in benchmark_bars(with_libraries, threads=1).axes
        )
        assert list(left) == ["bare products", "of OpenBLAS", "of MKL"]
        assert list(right) == ["bare products", "of OpenBLAS"]
        assert len({line.get_linestyle() for line in left.values()}) == 3
        assert all(left[name].get_linestyle() == line.get_linestyle() for name, line in right.items())

    def test_whiskers_are_the_quartiles(self, results: Benchmark) -> None:
        axes = benchmark_bars(results, threads=1).axes[0]
        (row,) = results.steps[
            (results.steps["machine"] == SMALL.name)
            & (results.steps["threads"] == 1)
            & (results.steps["contender"] == "JAX jitted")
        ].itertuples()
        whisker = axes.containers[TRAINING.index("JAX jitted") * 2].lines[2][0].get_segments()[0][:, 0]
        assert whisker.tolist() == pytest.approx([row.lower_quartile * 1e3, row.upper_quartile * 1e3])

    def test_words(self, results: Benchmark) -> None:
        assert benchmark_bars(results, threads=1).words.splitlines() == [
            "Median time of a training step, 1 thread.",
            f"{SMALL.name}: cllm_lab 2.4 ms (2.00 times its bare products), "
            "PyTorch eager 3.6 ms (1.50 times cllm_lab), "
            "JAX jitted 4.8 ms (2.00 times cllm_lab), bare products 1.2 ms (0.50 times cllm_lab).",
            f"{WIDE.name}: cllm_lab 4.8 ms (2.00 times its bare products), "
            "PyTorch eager 7.2 ms (1.50 times cllm_lab), "
            "JAX jitted 9.6 ms (2.00 times cllm_lab), bare products 2.4 ms (0.50 times cllm_lab).",
        ]
        assert benchmark_bars(results).words.startswith("Median time of a training step, 2 threads.")

    def test_without_a_headline_there_is_nothing_to_draw(self, results: Benchmark) -> None:
        with pytest.raises(ValueError, match="no headline machine"):
            benchmark_bars(replace(results, headline=()))

    def test_it_becomes_a_png(self, results: Benchmark) -> None:
        assert benchmark_bars(results).png().startswith(b"\x89PNG")


class TestCurves:
    def test_a_panel_per_size_and_a_line_per_contender(self, results: Benchmark) -> None:
        picture = benchmark_curves(results)
        *panels, legend = picture.axes
        assert [axes.get_xlabel() for axes in panels] == ["d_model", "batch_size"]
        widths, batches = panels
        for axes, sizes, growth in ((widths, [64, 128], 2.0), (batches, [4, 16], 1.0)):
            assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
            assert axes.get_ylim() == widths.get_ylim()
            assert [label.get_text() for label in axes.get_xticklabels()] == [str(size) for size in sizes]
            assert [line.get_label() for line in axes.lines] == list(BOOK_MILLISECONDS)
            for line in axes.lines:
                first = 1.2 * BOOK_MILLISECONDS[str(line.get_label())] / 2
                assert list(line.get_xdata()) == sizes
                assert list(line.get_ydata()) == pytest.approx([first, growth * first])
        drawn = legend.get_legend()
        assert drawn is not None
        assert [text.get_text() for text in drawn.get_texts()] == list(BOOK_MILLISECONDS)

    def test_lines_differ_in_style_as_in_colour(self, results: Benchmark) -> None:
        lines = benchmark_curves(results).axes[0].lines
        assert len({line.get_linestyle() for line in lines}) == len(lines)
        assert len({to_rgba(line.get_color()) for line in lines}) == len(lines)

    def test_a_contender_with_one_point_has_no_line(self, stored: dict[str, Any]) -> None:
        steps = [r for r in stored["steps"] if r["contender"] != "JAX jitted" or r["machine"] == SMALL.name]
        picture = benchmark_curves(Benchmark.of({**stored, "steps": steps}))
        assert "JAX jitted" not in {line.get_label() for axes in picture.axes for line in axes.lines}
        assert "JAX jitted" not in picture.words

    def test_words(self, results: Benchmark) -> None:
        title, widths, batches = benchmark_curves(results).words.splitlines()
        assert title == "Median time of a training step as one size of the machine changes, 2 threads."
        assert widths.startswith(
            "d_model: cllm_lab 1.2 ms at 64 and 2.4 ms at 128, PyTorch eager 1.8 ms at 64"
        )
        assert batches.endswith("bare products 0.6 ms at 4 and 0.6 ms at 16.")

    def test_a_quick_run_has_none(self, results: Benchmark) -> None:
        with pytest.raises(ValueError, match="no curves: the quick benchmark measures none"):
            benchmark_curves(replace(results, curves={}))


class TestStored:
    """The results that travel with the package."""

    def test_it_is_of_the_full_benchmark(self) -> None:
        found = lab.benchmark()
        assert found.headline == tuple(machine.name for machine in HEADLINE)
        assert found.curves == {size: tuple(m.name for m in machines) for size, machines in CURVES.items()}
        assert set(found.steps["contender"]) == set(CONTENDERS)
        assert len(found.busy) and len(found.cold_start) and len(found.phases)

    def test_its_statistics_belong_together(self) -> None:
        steps = lab.benchmark().steps
        assert len(steps)
        for row in steps.itertuples():
            assert 0.0 < row.minimum <= row.lower_quartile <= row.median <= row.upper_quartile
            assert row.ratio == pytest.approx(median(row.round_ratios))
            assert len(row.round_ratios) == len(row.round_medians) <= row.repetitions

    def test_contenders_trained_the_same_machine(self) -> None:
        steps = lab.benchmark().steps
        for _, rows in steps[steps["trains"]].groupby(["machine", "threads"]):
            losses = np.array(rows["first_losses"].tolist())
            assert losses.shape[1] == 3
            assert np.allclose(losses, losses[0], rtol=1e-3, atol=0.0)

    def test_it_tells_where_it_was_measured_but_not_on_whose_machine(self) -> None:
        about = lab.benchmark().about
        assert about["machine"].keys() == book_results()["machine"].keys()
        assert {"numpy", "numba"} <= about["versions"].keys()
        text = data_path("benchmark.json").read_text(encoding="utf-8")
        assert "/root" not in text and "/home" not in text and "/Users" not in text

    def test_its_pictures_can_be_drawn(self) -> None:
        found = lab.benchmark()
        for threads in found.threads:
            assert benchmark_bars(found, threads).words.count("\n") == len(found.headline)
        assert benchmark_curves(found).words.count("\n") == len(found.curves)
