"""The stored benchmark: how long a training step takes here and elsewhere, as tables and as pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from cllm_lab.resources import data_path
from cllm_lab.views.picture import REFERENCE_COLOUR, Picture, drawing, stroke

TABLES = ("steps", "phases", "busy", "cold_start", "not_run", "claims")
MILLISECONDS = 1e3
PANELS_ACROSS = 2
PANEL_HEIGHT = 2.3
CURVES_ACROSS = 3
# The multiples of a power of ten that a logarithmic axis names.
LABELLED = (1.0, 2.0, 5.0)
# Room under the bars, in bars, for the names of the vertical lines.
LEGEND_ROWS = 0.7
REFERENCE_STROKES = ("-", ":", (0, (5, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Benchmark:
    """The results of one run of the benchmark. All times are in seconds, all memory is in bytes.

    ``steps`` has a row per machine, number of threads and contender: the machine's sizes; ``median``,
    ``lower_quartile``, ``upper_quartile`` and ``minimum`` of so many ``repetitions`` of a training step;
    ``round_medians``; ``round_ratios``, those over the reference's of the same round, and ``ratio``, the median of
    these, above 1 where the reference is faster; ``trains``, False for the bare matrix products; ``first_losses``
    in nats; ``start_seconds`` to the end of the first step, compilation included; ``peak_memory_bytes``, the
    largest resident set above that after the contender's imports.
    ``phases`` has the parts of the step, ``claims`` what was said of them; ``busy`` the step beside a process that
    burns a core, its ``slowdown`` the median ratio of busy to quiet; ``cold_start`` the seconds that fresh processes
    took; ``not_run`` what could not be had, and the reason.
    ``reference`` names this library's step, ``bare_products`` the matrix products of that step by the same kernels,
    where they were measured; those of other libraries stand beside them. ``headline`` and ``curves`` name the machines
    of the two pictures, ``about`` has the rest: date, machine, versions, number of turns.
    """

    steps: pandas.DataFrame
    phases: pandas.DataFrame
    busy: pandas.DataFrame
    cold_start: pandas.DataFrame
    not_run: pandas.DataFrame
    claims: pandas.DataFrame
    headline: tuple[str, ...]
    curves: Mapping[str, tuple[str, ...]]
    reference: str
    bare_products: str | None
    threads: tuple[int, ...]
    about: Mapping[str, Any]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Benchmark:
        """The results of a decoded JSON file. Raises ValueError naming what it lacks."""
        needed = {*TABLES, "headline", "curves", "reference", "threads"}
        missing = sorted(needed - stored.keys())
        if missing:
            raise ValueError(f"these are no results of the benchmark: they lack {', '.join(missing)}")
        return cls(
            **{name: pandas.DataFrame(stored[name]) for name in TABLES},
            headline=tuple(stored["headline"]),
            curves={size: tuple(names) for size, names in stored["curves"].items()},
            reference=stored["reference"],
            bare_products=stored.get("bare_products"),
            threads=tuple(stored["threads"]),
            about={name: value for name, value in stored.items() if name not in {*needed, "bare_products"}},
        )

    def milliseconds(self, threads: int | None = None, column: str = "median") -> pandas.DataFrame:
        """Milliseconds of a step: a row per headline machine, a column per contender, NaN where it was not run.

        ``column`` is one of the times of ``steps``; ``threads`` as in `benchmark_bars`.
        """
        return self._pivot(threads, column) * MILLISECONDS

    def ratios(self, threads: int | None = None) -> pandas.DataFrame:
        """How many times as long as the reference each contender takes, in the form of `milliseconds`."""
        return self._pivot(threads, "ratio")

    def over_products(self, threads: int | None = None) -> pandas.Series:
        """How many times as long as its own bare products the reference's step takes, by machine.

        The median over the rounds of the quotient within a round; without the machines of which one of the two was not
        measured. ``threads`` as in `benchmark_bars`.
        """
        rows = self.steps[self.steps["threads"] == self.measured_with(threads)]
        rounds = rows.pivot(index="machine", columns="contender", values="round_medians")
        both = rounds.reindex(index=rows["machine"].unique(), columns=[self.reference, self.bare_products])
        found = {name: np.median(np.divide(*pair)) for name, *pair in both.dropna().itertuples()}
        return pandas.Series(found, dtype=float)

    def measured_with(self, threads: int | None) -> int:
        """The number of threads, the most for None. Raises ValueError naming those that were measured."""
        chosen = max(self.threads) if threads is None else threads
        if chosen not in self.threads:
            raise ValueError(f"nothing was measured with threads={threads}; there is {_listed(self.threads)}")
        return chosen

    def of_machines(self, names: Sequence[str], threads: int) -> pandas.DataFrame:
        """The rows of ``steps`` of these machines, in their order."""
        rows = self.steps[self.steps["machine"].isin(names) & (self.steps["threads"] == threads)]
        return rows.sort_values("machine", key=lambda column: column.map(names.index), kind="stable")

    def _pivot(self, threads: int | None, column: str) -> pandas.DataFrame:
        rows = self.of_machines(self.headline, self.measured_with(threads))
        table = rows.pivot(index="machine", columns="contender", values=column).astype(float)
        return table.reindex(index=rows["machine"].unique(), columns=rows["contender"].unique())


def benchmark(path: str | os.PathLike[str] | None = None) -> Benchmark:
    """The stored results of the benchmark, or those at ``path``. `make bench` makes them.

    Raises OSError where there is no such file, ValueError where it holds something else.
    """
    source = data_path("benchmark.json") if path is None else Path(path)
    stored = json.loads(source.read_text(encoding="utf-8"))
    if not isinstance(stored, dict):
        raise ValueError(f"{source.name} holds no results of the benchmark but a {type(stored).__name__}")
    return Benchmark.of(stored)


def benchmark_summary(results: Benchmark) -> str:
    """A Markdown table: each headline machine and number of threads, our step beside the fastest of the others.

    Times are medians in milliseconds. The ratio is the median over the rounds of the fastest other contender's time
    over ours, above 1 where we are faster; "step over products" is `Benchmark.over_products`.
    """
    limits = list(results.steps.loc[~results.steps["trains"], "contender"].unique())
    headings = [
        "machine",
        "threads",
        results.reference,
        "fastest other",
        "ratio",
        "step over products",
        *limits,
    ]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for machine in results.headline:
        for threads in results.threads:
            rows = {row["contender"]: row for row in _records(results.of_machines([machine], threads))}
            if results.reference not in rows:
                continue
            others = [row for name, row in rows.items() if row["trains"] and name != results.reference]
            fastest = min(others, key=lambda row: row["ratio"], default=None)
            over = results.over_products(threads).get(machine)
            cells = [
                machine,
                str(threads),
                _milliseconds(rows[results.reference]),
                "" if fastest is None else f"{_milliseconds(fastest)} ({fastest['contender']})",
                "" if fastest is None else f"{fastest['ratio']:.2f}",
                "" if over is None else f"{over:.2f}",
                *(_milliseconds(rows.get(limit)) for limit in limits),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _milliseconds(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else _figure(row["median"] * MILLISECONDS)


def benchmark_bars(results: Benchmark, threads: int | None = None) -> Picture:
    """Median milliseconds of a step, a panel per headline machine and a bar per contender, quartiles as whiskers.

    Vertical lines are what the bare matrix products take. ``threads`` is one of those measured, the most for None.
    Raises ValueError for another number, and for results without a headline.
    """
    chosen = results.measured_with(threads)
    rows = results.of_machines(results.headline, chosen)
    if rows.empty:
        raise ValueError("these results have no headline machine to draw")
    machines = list(rows["machine"].unique())
    names = list(rows.loc[rows["trains"], "contender"].unique())
    limits = {
        name: (_short(results, name), line_style)
        for name, line_style in zip(
            rows.loc[~rows["trains"], "contender"].unique(), cycle(REFERENCE_STROKES), strict=False
        )
    }
    down = -(-len(machines) // PANELS_ACROSS)
    with drawing(9.9, PANEL_HEIGHT * down + 0.5) as picture:
        grid = picture.add_gridspec(
            down,
            PANELS_ACROSS,
            left=0.15,
            right=0.97,
            top=1.0 - 0.35 / (PANEL_HEIGHT * down),
            bottom=0.55 / (PANEL_HEIGHT * down),
            hspace=0.5,
            wspace=0.12,
        )
        for place, machine in enumerate(machines):
            axes = picture.add_subplot(grid[place // PANELS_ACROSS, place % PANELS_ACROSS])
            _bar_panel(axes, rows[rows["machine"] == machine], names, limits)
            axes.set_title(machine, loc="left", parse_math=False, fontsize=9.5)
            axes.tick_params(axis="y", labelleft=place % PANELS_ACROSS == 0)
            if place >= len(machines) - PANELS_ACROSS:
                axes.set_xlabel("milliseconds per training step")
    over = results.over_products(chosen)
    sentences = [
        _say_bars(results, rows[rows["machine"] == machine], machine, over.get(machine))
        for machine in machines
    ]
    picture.words = "\n".join([f"Median time of a training step, {_threads_said(chosen)}.", *sentences])
    return picture


def _short(results: Benchmark, limit: str) -> str:
    """The name of a limit that stands to the right of that of the bare products."""
    return limit.removeprefix(f"{results.bare_products} ")


def _bar_panel(
    axes: Axes, rows: pandas.DataFrame, names: Sequence[str], limits: Mapping[str, tuple[str, Any]]
) -> None:
    for place, name in enumerate(names):
        for row in _records(rows[rows["contender"] == name]):
            middle = row["median"] * MILLISECONDS
            whiskers = (row["median"] - row["lower_quartile"], row["upper_quartile"] - row["median"])
            axes.barh(
                place,
                middle,
                color=stroke(place)["color"],
                height=0.7,
                xerr=np.array(whiskers)[:, None] * MILLISECONDS,
                error_kw={"elinewidth": 1.0, "ecolor": "0.2"},
            )
            axes.annotate(
                _figure(middle),
                xy=(row["upper_quartile"] * MILLISECONDS, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.0,
            )
    measured = _records(rows[~rows["trains"]])
    for row in measured:
        short, line_style = limits[row["contender"]]
        middle = row["median"] * MILLISECONDS
        axes.axvline(
            middle, color="0.2", linewidth=1.4, linestyle=line_style, label=f"{short} {_figure(middle)}"
        )
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) + LEGEND_ROWS - 0.4, -0.6))
    axes.grid(False, axis="y")
    axes.set_xlim(0.0, axes.get_xlim()[1] * 1.08)
    if measured:
        axes.legend(
            loc="lower right",
            fontsize=7.5,
            borderaxespad=0.1,
            handlelength=1.8,
            handletextpad=0.4,
            columnspacing=1.0,
            ncols=len(measured),
        )


def _records(rows: pandas.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _say_bars(results: Benchmark, rows: pandas.DataFrame, machine: str, over: float | None) -> str:
    said = []
    for row in _records(rows):
        text = f"{row['contender']} {_figure(row['median'] * MILLISECONDS)} ms"
        if row["contender"] == results.reference:
            text += "" if over is None else f" ({over:.2f} times its {results.bare_products})"
        elif not pandas.isna(row["ratio"]):
            text += f" ({row['ratio']:.2f} times {results.reference})"
        said.append(text)
    return f"{machine}: {', '.join(said)}."


def benchmark_curves(results: Benchmark) -> Picture:
    """Median milliseconds of a step against each size of the machine, a line per contender, both axes logarithmic.

    All panels have the same vertical axis. The bare matrix products are grey.
    Raises ValueError for results without curves.
    """
    if not results.curves:
        raise ValueError("these results have no curves: the quick benchmark measures none")
    threads = max(results.threads)
    tables = {size: _curve(results, size, names, threads) for size, names in results.curves.items()}
    contenders = list(dict.fromkeys(str(name) for table in tables.values() for name in table))
    training = set(results.steps.loc[results.steps["trains"], "contender"])
    competing = [name for name in contenders if name in training]
    looks: dict[str, dict[str, Any]] = {
        name: stroke(competing.index(name))
        if name in competing
        else {"color": REFERENCE_COLOUR, "linestyle": ":"}
        for name in contenders
    }
    down = -(-(len(tables) + 1) // CURVES_ACROSS)
    with drawing(9.9, 3.0 * down) as picture:
        grid = picture.add_gridspec(
            down, CURVES_ACROSS, left=0.07, right=0.98, top=0.97, bottom=0.09, hspace=0.32, wspace=0.22
        )
        for place, (size, table) in enumerate(tables.items()):
            shared = picture.axes[0] if picture.axes else None
            axes = picture.add_subplot(grid[place // CURVES_ACROSS, place % CURVES_ACROSS], sharey=shared)
            for name in map(str, table):
                middles = table[name].dropna()
                axes.plot(middles.index, middles, marker="o", markersize=3.5, label=name, **looks[name])
            axes.set(xscale="log", yscale="log", xlabel=size)
            axes.xaxis.set_major_locator(FixedLocator([float(value) for value in table.index]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_major_locator(LogLocator(subs=LABELLED))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
            if place % CURVES_ACROSS == 0:
                axes.set_ylabel("milliseconds per training step")
        handles = {str(line.get_label()): line for axes in picture.axes for line in axes.lines}
        legend = picture.add_subplot(grid[down - 1, CURVES_ACROSS - 1])
        legend.set_axis_off()
        legend.legend(list(handles.values()), list(handles), loc="center left", handlelength=3.5)
    picture.words = "\n".join(
        [
            f"Median time of a training step as one size of the machine changes, {_threads_said(threads)}.",
            *(_say_curve(size, table) for size, table in tables.items()),
        ]
    )
    return picture


def _curve(results: Benchmark, size: str, names: Sequence[str], threads: int) -> pandas.DataFrame:
    """Milliseconds, a row per value of a size and a column per contender that has more than one of them."""
    rows = results.of_machines(names, threads)
    table = rows.pivot(index=size, columns="contender", values="median") * MILLISECONDS
    table = table.reindex(columns=rows["contender"].unique())
    return table.loc[:, table.count() > 1]


def _say_curve(size: str, table: pandas.DataFrame) -> str:
    said = []
    for name in table:
        middles = table[name].dropna()
        said.append(
            f"{name} {_figure(middles.iloc[0])} ms at {middles.index[0]} and "
            f"{_figure(middles.iloc[-1])} ms at {middles.index[-1]}"
        )
    return f"{size}: {', '.join(said)}."


def _figure(milliseconds: float) -> str:
    """Three digits that count."""
    return np.format_float_positional(milliseconds, precision=3, unique=False, fractional=False, trim="-")


def _threads_said(threads: int) -> str:
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _listed(values: Sequence[int]) -> str:
    return " and ".join(str(value) for value in values)
