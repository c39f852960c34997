"""Files of a person's own: free names, whole contents, and everything can be read back."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import cllm_lab as lab
from cllm_lab.training.history import History
from cllm_lab.views.live.exports import free_path, save_checkpoint, save_figure, save_history, save_text
from cllm_lab.views.picture import Picture, drawing
from tests.training.machines import TEXT, bits, make_trainer
from tests.views.machines import record

SVG = "{http://www.w3.org/2000/svg}"


def picture() -> Picture:
    with drawing(4.0, 3.0) as made:
        made.add_axes((0.1, 0.1, 0.6, 0.8)).plot([0, 1], [0, 1])
    made.words = "a line < that rises\nand ends & stays"
    return made


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    for expected in ("run.csv", "run-2.csv", "run-3.csv"):
        path = free_path(tmp_path, "run", ".csv")
        assert path == tmp_path / expected
        path.touch()
    assert free_path(str(tmp_path), "run", ".txt") == tmp_path / "run.txt"
    assert free_path(tmp_path, "lr 0.01", ".csv") == tmp_path / "lr 0.01.csv"
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere")
    assert free_path(tmp_path, "link", ".csv").name == "link-2.csv"


@pytest.mark.parametrize("name", ["", "  ", ".", "..", "a/b", "../a", "/a", "a\\b", "a\0"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name must be that of a file") as refused:
        free_path(tmp_path, name, ".csv")
    assert repr(name) in str(refused.value)
    with pytest.raises(ValueError, match="name must be"):
        save_text("x", tmp_path, name, ".txt")
    assert list(tmp_path.iterdir()) == []


def test_other_arguments_that_are_refused(tmp_path: Path) -> None:
    for suffix in ("", ".", "csv", "./csv", ".a\\b"):
        with pytest.raises(ValueError, match="suffix must begin with a dot"):
            free_path(tmp_path, "run", suffix)
    with pytest.raises(TypeError, match="name must be a str; got int"):
        free_path(tmp_path, 7, ".csv")  # type: ignore[arg-type]


def test_a_history_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    trainer = make_trainer(validation_fraction=0.3)
    trainer.run(steps=8, progress=False)
    more = [
        record(9, 0.1 + 0.2, update_ratio=math.inf, seconds=0.0),
        record(10, 1.0 / 3.0, grad_norm_ff=0.0, grad_norm=5e-324),
    ]
    history = History([*trainer.history, *more], [])
    path = save_history(history, tmp_path, "run")
    assert path == tmp_path / "run.csv"
    back = pd.read_csv(path, engine="python")
    pd.testing.assert_frame_equal(back, history.steps, check_exact=True)
    assert back["validation_loss"].isna().sum() == 8
    assert math.isinf(back["update_ratio"].iloc[8]) and math.isinf(back["tokens_per_second"].iloc[8])
    assert save_history(history, tmp_path, "run") == tmp_path / "run-2.csv"
    assert path.read_bytes() == (tmp_path / "run-2.csv").read_bytes()
    assert b"\r" not in path.read_bytes()


def test_a_history_without_a_step_has_its_columns(tmp_path: Path) -> None:
    path = save_history(History([], []), tmp_path, "none")
    assert list(pd.read_csv(path).columns) == list(History([], []).steps.columns)


def test_a_picture_is_a_png_and_an_svg_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "run.svg").write_text("mine")
    png, svg = save_figure(picture(), tmp_path, "run")
    assert (png.name, svg.name) == ("run-2.png", "run-2.svg")
    assert (tmp_path / "run.svg").read_text() == "mine"
    with Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (400, 300))
    root = ElementTree.parse(svg).getroot()
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert [root[0].tag, root[1].tag] == [f"{SVG}title", f"{SVG}desc"]
    assert (root[0].text, root[1].text) == ("a line < that rises", picture().words)


def test_a_checkpoint_goes_on_where_the_trainer_stood(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.run(steps=3, progress=False)
    path = save_checkpoint(trainer, tmp_path, "mine")
    assert path == tmp_path / "mine.safetensors"
    back = lab.Trainer.load(path, TEXT)
    before, after = bits(trainer), bits(back)
    assert before.keys() == after.keys() and before["arrays"] == after["arrays"]
    assert before["records"] == after["records"]
    assert save_checkpoint(trainer, tmp_path, "mine").name == "mine-2.safetensors"


def test_a_text_stays_as_it_is(tmp_path: Path) -> None:
    text = "first\nsecond\r\nµ \u2028 end"
    path = save_text(text, tmp_path, "console", ".txt")
    assert path == tmp_path / "console.txt"
    assert path.read_bytes().decode("utf-8") == text


def test_errors_of_the_file_system_come_through_and_leave_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for save in (
        lambda: save_text("x", nowhere, "a", ".txt"),
        lambda: save_history(History([record(1, 2.0)], []), nowhere, "a"),
        lambda: save_figure(picture(), nowhere, "a"),
        lambda: save_checkpoint(make_trainer(), nowhere, "a"),
    ):
        with pytest.raises(FileNotFoundError):
            save()
    with pytest.raises(UnicodeEncodeError):
        save_text("\ud800", tmp_path, "a", ".txt")
    assert list(tmp_path.iterdir()) == []
