"""The README's code prints what the README says, and its figures are the stored ones."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

import cllm_lab as lab
from cllm_lab.training.evidence import summary
from cllm_lab.views.benchmark import benchmark_summary
from cllm_lab.views.cases import cases_summary, claims_table, fault_index
from cllm_lab.views.claims import claims_summary
from cllm_lab.views.lattice_summary import lattice_summary

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_six_lines_print_what_is_shown() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    shown = re.search(r"```text\n(.*?)```", README, re.S).group(1)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the project's own text
    assert printed.getvalue() == shown
    assert len([line for line in code.splitlines() if line.strip()]) == 6


def test_the_figures_of_the_long_runs_are_the_stored_ones() -> None:
    assert f"<!-- evidence -->\n{summary()}\n<!-- /evidence -->" in README


def test_the_figures_of_the_benchmark_are_the_stored_ones() -> None:
    assert f"<!-- benchmark -->\n{benchmark_summary(lab.benchmark())}\n<!-- /benchmark -->" in README


def test_the_figures_of_the_lattice_are_the_stored_ones() -> None:
    assert f"<!-- lattice -->\n{lattice_summary(lab.lattice_results())}\n<!-- /lattice -->" in README


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("cases", cases_summary),
        ("faults", fault_index),
        ("claims", claims_summary),
        ("all-claims", claims_table),
    ],
)
def test_the_tables_of_cases_and_claims_are_those_of_the_ledger(name, table) -> None:
    assert f"<!-- {name} -->\n{table()}\n<!-- /{name} -->" in README


def test_every_notebook_is_listed_with_its_minutes() -> None:
    manifest = json.loads((ROOT / "notebooks" / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest:
        row = [
            line for line in README.splitlines() if f"[{entry['title']}](notebooks/{entry['file']})" in line
        ]
        assert len(row) == 1, entry["file"]
        assert f"| {entry['minutes']} |" in row[0], entry["file"]
