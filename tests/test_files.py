"""Files are complete or not there."""

from pathlib import Path

import pytest

from cllm_lab import files
from cllm_lab.files import replacing


@pytest.mark.parametrize("existed", [True, False])
def test_the_new_file_takes_the_place(tmp_path: Path, existed: bool) -> None:
    target = tmp_path / "target"
    if existed:
        target.write_text("old")
    with replacing(target) as unfinished:
        unfinished.write_text("new")
        assert target.exists() == existed
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_all_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as unfinished:
        unfinished.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_move_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no room")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="no room"), replacing(tmp_path / "target") as unfinished:
        unfinished.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with replacing(tmp_path / "target") as unfinished:
        unfinished.chmod(0o600)
    assert (tmp_path / "target").stat().st_mode == ordinary.stat().st_mode
