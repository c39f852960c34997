"""The README's code prints what the README says, and its figures are the stored ones."""

import contextlib
import io
import json
import re
from pathlib import Path

import cllm_lab as lab
from cllm_lab.training.evidence import summary
from cllm_lab.views.benchmark import benchmark_summary

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


def test_every_notebook_is_listed_with_its_minutes() -> None:
    manifest = json.loads((ROOT / "notebooks" / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest:
        row = [line for line in README.splitlines() if f"notebooks/{entry['file']}" in line]
        assert len(row) == 1, entry["file"]
        assert f"| {entry['minutes']} |" in row[0], entry["file"]


def test_links_lead_somewhere() -> None:
    for text in ("README.md", "CONTRIBUTING.md", "docs/glossary.md", "data/README.md"):
        for link in re.findall(r"\]\((?!https://)([^)#]+)\)", (ROOT / text).read_text(encoding="utf-8")):
            assert (ROOT / text).parent.joinpath(link).exists(), f"{text}: {link}"
