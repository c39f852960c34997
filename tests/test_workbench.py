"""The working copy of the notebooks, and the command that makes it and opens JupyterLab there."""

import json
import os
from pathlib import Path

import pytest
from jupyterlab.labapp import LabApp

from cllm_lab import __main__ as command_line
from cllm_lab import workbench
from cllm_lab.model.parts.threads import ENVIRONMENT
from cllm_lab.workbench import WorkbenchError, WorkbenchReport, update_workbench

TOUR = "00_tour.ipynb"
OPEN_TOUR = "--LabApp.default_url=/lab/tree/00_tour.ipynb"


def notebook(*sources: str, output: str = "") -> bytes:
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    cells = [
        {"cell_type": "code", "execution_count": 1, "outputs": outputs, "source": source.splitlines(True)}
        for source in sources
    ]
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped"
    (folder / "figures").mkdir(parents=True)
    (folder / TOUR).write_bytes(notebook("1 + 1"))
    (folder / "figures" / "curve.svg").write_bytes(b"<svg/>")
    (folder / "manifest.json").write_text(json.dumps([{"file": TOUR}]))
    monkeypatch.setattr(workbench, "notebooks_path", lambda: folder)
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "my work"


def changes(report: WorkbenchReport) -> dict[str, list[str]]:
    return {name: files for name, files in vars(report).items() if name != "folder" and files}


def test_a_first_copy_holds_everything_a_person_works_with(shipped: Path, mine: Path) -> None:
    (shipped / ".ipynb_checkpoints").mkdir()
    (shipped / ".ipynb_checkpoints" / TOUR).write_bytes(b"{}")
    report = update_workbench(mine)
    assert changes(report) == {"new": [TOUR, "figures/curve.svg"]}
    assert (mine / TOUR).read_bytes() == (shipped / TOUR).read_bytes()
    assert sorted(path.name for path in mine.iterdir()) == [".cllm_lab.json", TOUR, "figures"]
    assert f"{TOUR}: new" in str(report)


def test_nothing_happens_when_nothing_changed(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    before = (mine / TOUR).stat().st_mtime_ns
    assert changes(update_workbench(mine)) == {"unchanged": [TOUR, "figures/curve.svg"]}
    assert (mine / TOUR).stat().st_mtime_ns == before


@pytest.mark.parametrize("newer", [notebook("2 + 2"), notebook("1 + 1", output="2")])
def test_an_untouched_file_follows_the_shipped_one(shipped: Path, mine: Path, newer: bytes) -> None:
    update_workbench(mine)
    (shipped / TOUR).write_bytes(newer)
    (shipped / "figures" / "curve.svg").write_bytes(b"<svg id='2'/>")
    assert changes(update_workbench(mine)) == {"updated": [TOUR, "figures/curve.svg"]}
    assert (mine / TOUR).read_bytes() == newer
    assert changes(update_workbench(mine)) == {"unchanged": [TOUR, "figures/curve.svg"]}


def test_an_edited_notebook_is_kept_and_the_newer_one_named_until_it_is_taken(
    shipped: Path, mine: Path
) -> None:
    update_workbench(mine)
    edited = notebook("1 + 100")
    (mine / TOUR).write_bytes(edited)
    assert changes(update_workbench(mine))["kept"] == [TOUR]
    (shipped / TOUR).write_bytes(notebook("2 + 2"))
    for _ in range(2):
        report = update_workbench(mine)
        assert changes(report)["outdated"] == [TOUR]
        assert f"{TOUR}: edited by you, kept; a newer one is shipped" in str(report)
    assert (mine / TOUR).read_bytes() == edited

    (mine / TOUR).rename(mine / "mine.ipynb")
    assert changes(update_workbench(mine))["new"] == [TOUR]
    assert (mine / TOUR).read_bytes() == notebook("2 + 2")
    assert (mine / "mine.ipynb").read_bytes() == edited


def test_a_run_alone_is_no_edit(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    run = notebook("1 + 1", output="my run")
    (mine / TOUR).write_bytes(run)
    assert TOUR in update_workbench(mine).unchanged
    assert (mine / TOUR).read_bytes() == run


def test_a_run_of_an_older_version_is_set_aside_not_lost(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    for number in (1, 2):
        run = notebook(*cell_sources(mine), output=f"run {number}")
        (mine / TOUR).write_bytes(run)
        newer = notebook(f"{number} + {number} + 1")
        (shipped / TOUR).write_bytes(newer)
        report = update_workbench(mine)
        assert (report.updated, report.set_aside) == ([TOUR], [f"00_tour.run-{number}.ipynb"])
        assert (mine / report.set_aside[0]).read_bytes() == run
        assert (mine / TOUR).read_bytes() == newer


def cell_sources(folder: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads((folder / TOUR).read_bytes())["cells"]]


@pytest.mark.parametrize("content", [b"not a notebook", b"[]", b'{"cells": 3}', notebook("mine")])
def test_a_file_that_was_there_first_is_kept(shipped: Path, mine: Path, content: bytes) -> None:
    mine.mkdir()
    (mine / TOUR).write_bytes(content)
    for _ in range(2):
        assert update_workbench(mine).outdated == [TOUR]
    assert (mine / TOUR).read_bytes() == content


def test_an_edited_figure_is_kept(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    (mine / "figures" / "curve.svg").write_bytes(b"<svg>mine</svg>")
    assert update_workbench(mine).kept == ["figures/curve.svg"]


def test_an_edit_that_the_shipped_version_also_made_ends_the_difference(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    for folder in (mine, shipped):
        (folder / TOUR).write_bytes(notebook("2 + 2", output=folder.name))
    assert TOUR in update_workbench(mine).unchanged
    (shipped / TOUR).write_bytes(notebook("3 + 3"))
    assert update_workbench(mine).updated == [TOUR]


def test_a_withdrawn_file_stays_and_is_named_once(shipped: Path, mine: Path) -> None:
    update_workbench(mine)
    (shipped / TOUR).unlink()
    assert update_workbench(mine).withdrawn == [TOUR]
    assert update_workbench(mine).withdrawn == []
    assert (mine / TOUR).exists()


def test_an_unfinished_update_is_completed_by_the_next(
    shipped: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_workbench(mine)
    (shipped / TOUR).write_bytes(notebook("2 + 2"))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(json, "dumps", raise_interrupt_at_the_record(json.dumps))
        with pytest.raises(KeyboardInterrupt):
            update_workbench(mine)
    assert (mine / TOUR).read_bytes() == notebook("2 + 2")
    assert TOUR in update_workbench(mine).unchanged


def raise_interrupt_at_the_record(dumps):
    def interrupted(value, **options):
        if isinstance(value, dict):
            raise KeyboardInterrupt
        return dumps(value, **options)

    return interrupted


def test_a_file_is_refused(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match=r"folder must be a folder, but .*file is a file"):
        update_workbench(tmp_path / "file")


@pytest.mark.parametrize("inside", ["", "figures", "new folder", "figures/.."])
def test_the_shipped_notebooks_are_no_working_copy(shipped: Path, inside: str) -> None:
    before = sorted(shipped.rglob("*"))
    with pytest.raises(WorkbenchError, match="folder must lie outside the shipped notebooks"):
        update_workbench(shipped / inside)
    assert sorted(shipped.rglob("*")) == before


@pytest.mark.parametrize("damage", ["{", "[]", '{"00_tour.ipynb": 3}', '{"00_tour.ipynb": {"x": 1}}'])
def test_a_damaged_record_is_named_and_nothing_written(shipped: Path, mine: Path, damage: str) -> None:
    mine.mkdir()
    (mine / ".cllm_lab.json").write_text(damage)
    with pytest.raises(WorkbenchError, match=r"damaged record .* delete .*\.cllm_lab\.json"):
        update_workbench(mine)
    assert [path.name for path in mine.iterdir()] == [".cllm_lab.json"]


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def launched(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        launches: list[list[str]] = []
        for name in ENVIRONMENT:
            # Set first, so that it is put back afterwards whatever the command does to it.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        monkeypatch.setattr(LabApp, "launch_instance", launches.append)
        return launches

    def test_lab_opens_the_first_notebook_of_the_working_copy(
        self, shipped: Path, mine: Path, launched: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["lab", str(mine), "--no-browser", "--port", "8890"]) == 0
        assert launched == [[str(mine), OPEN_TOUR, "--no-browser", "--port", "8890"]]
        assert f"{TOUR}: new" in capsys.readouterr().out

    def test_lab_starts_kernels_whose_products_do_not_spin_for_long(
        self, shipped: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KMP_BLOCKTIME", "7")
        assert command_line.main(["lab", str(mine)]) == 0
        assert {name: os.environ[name] for name in ENVIRONMENT} == {**ENVIRONMENT, "KMP_BLOCKTIME": "7"}

    def test_without_a_folder_the_options_still_reach_jupyterlab(
        self, shipped: Path, tmp_path: Path, launched: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert command_line.main(["lab", "--port", "8890", "--ServerApp.token=x"]) == 0
        assert launched == [["workbench", OPEN_TOUR, "--port", "8890", "--ServerApp.token=x"]]
        assert (tmp_path / "workbench" / TOUR).exists()

    def test_where_no_notebook_is_shipped_the_folder_opens(
        self, shipped: Path, mine: Path, launched: list[list[str]]
    ) -> None:
        (shipped / "manifest.json").write_text("[]")
        assert command_line.main(["lab", str(mine)]) == 0
        assert launched == [[str(mine), "--LabApp.default_url=/lab"]]

    def test_no_launch_only_copies(self, shipped: Path, mine: Path, launched: list[list[str]]) -> None:
        assert command_line.main(["lab", "--no-launch", str(mine)]) == 0
        assert launched == []
        assert (mine / TOUR).exists()

    def test_a_refused_folder_is_an_error_line_not_a_traceback(
        self, shipped: Path, launched: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["lab", str(shipped)]) == 2
        assert launched == []
        assert capsys.readouterr().err.startswith("error: folder must lie outside")

    def test_missing_jupyterlab_is_said_with_the_remedy(
        self, shipped: Path, mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command_line, "find_spec", lambda name: None)
        assert command_line.main(["lab", str(mine)]) == 1
        assert 'pip install "cllm_lab[lab]"' in capsys.readouterr().err

    def test_compile_reports_each_kernel_once_for_each_dtype(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["compile"]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        for dtype in ("float32", "float64"):
            for name in ("layer_norm", "adam"):
                assert sum(line.endswith(f" {name} ({dtype})") for line in said.out.splitlines()) == 1

    def test_nothing_asked_prints_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line.main([]) == 0
        assert "usage: python -m cllm_lab" in capsys.readouterr().out

    def test_what_compile_does_not_know_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command_line.main(["compile", "--fast"])
        assert "unrecognized arguments: --fast" in capsys.readouterr().err
