"""The figure that every view returns: its words, its file, and what it leaves alone."""

import io
import threading
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cllm_lab.views import picture
from cllm_lab.views.picture import drawing, label_at_right, spread, stroke, wrapped


def one_line() -> picture.Picture:
    with drawing(4.0, 3.0) as made:
        made.add_axes((0.1, 0.1, 0.6, 0.8)).plot([0, 1], [0, 1])
    made.words = "a line that rises"
    return made


def test_the_png_has_100_dots_an_inch_and_a_palette() -> None:
    image = Image.open(io.BytesIO(one_line().png()))
    assert image.size == (400, 300)
    assert image.mode == "P"
    assert one_line().png() == one_line().png()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "line.png"
    one_line().save(path)
    before = path.read_bytes()
    assert before == one_line().png()
    broken = one_line()

    def fails() -> bytes:
        raise OSError("no space")

    monkeypatch.setattr(broken, "png", fails)
    with pytest.raises(OSError, match="no space"):
        broken.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["line.png"]


def test_an_svg_says_its_words_and_is_the_same_every_time(tmp_path: Path) -> None:
    drawn = one_line()
    drawn.words = "a < b\nand c & d"
    path = tmp_path / "line.svg"
    drawn.save(path)
    assert path.read_text(encoding="utf-8") == drawn.svg() == drawn.svg()
    root = ElementTree.fromstring(drawn.svg())
    assert root.get("role") == "img"
    assert [(child.tag.rpartition("}")[2], child.text) for child in root[:2]] == [
        ("title", "a < b"),
        ("desc", "a < b\nand c & d"),
    ]
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert "0.50" in texts


def test_two_threads_do_not_put_back_each_others_settings() -> None:
    before = dict(matplotlib.rcParams)
    inside, entered = threading.Event(), []

    def draw() -> None:
        inside.set()
        with drawing(1.0, 1.0):
            entered.append(True)

    with drawing(1.0, 1.0):
        other = threading.Thread(target=draw)
        other.start()
        inside.wait()
        other.join(timeout=0.2)
        assert entered == []
    other.join()
    assert entered == [True]
    assert dict(matplotlib.rcParams) == before


def test_a_persons_own_settings_neither_show_nor_change() -> None:
    plain = one_line().png()
    with matplotlib.rc_context(
        {"lines.linewidth": 9.0, "figure.facecolor": "black", "savefig.bbox": "tight"}
    ):
        before = dict(matplotlib.rcParams)
        assert one_line().png() == plain
        assert dict(matplotlib.rcParams) == before


def test_jupyter_gets_the_picture_its_alternative_text_and_the_printed_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: sent.append((data, how)))
    shown = one_line()
    shown._ipython_display_()
    ((data, how),) = sent
    assert data["image/png"] == shown.png()
    assert how == {"metadata": {"image/png": {"alt": "a line that rises"}}, "raw": True}
    assert capsys.readouterr().out == "a line that rises\n"


def test_words_are_wrapped_line_by_line() -> None:
    assert wrapped("a\nb") == "a\nb"
    assert [len(line) for line in wrapped("word " * 30).split("\n")] == [99, 49]


def test_neighbours_differ_in_colour_and_in_line_style() -> None:
    looks = [stroke(place) for place in range(6)]
    for one, other in pairwise(looks):
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]
    assert len({(str(look["color"]), look["linestyle"]) for look in looks}) == 6


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.floats(0.5, 20))
def test_spread_positions_keep_their_distance_and_their_order(positions: list[float], gap: float) -> None:
    placed = spread(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert np.all(np.diff(placed[order]) >= gap - 1e-9)
    assert np.isclose(placed.sum(), sum(positions))


def test_spread_moves_nothing_without_need_and_shares_a_move_fairly() -> None:
    assert spread([50.0, 0.0, 20.0], 10.0).tolist() == [50.0, 0.0, 20.0]
    assert spread([4.0, 4.0], 10.0).tolist() == [-1.0, 9.0]


def test_labels_stand_at_their_heights_and_are_no_formulas() -> None:
    with drawing(4.0, 3.0) as made:
        axes = made.add_axes((0.1, 0.1, 0.6, 0.8))
        axes.set(xlim=(0, 1), ylim=(0, 10))
        label_at_right(axes, [(2.0, "costs $5 or $6", "k"), (2.1, "near", "k"), (9.0, "far", "k")])
    assert [text.get_text() for text in axes.texts] == ["costs $5 or $6", "near", "far"]
    assert [text.xy[1] for text in axes.texts] == [2.0, 2.1, 9.0]
    assert axes.texts[2].xyann[1] == 0.0
    assert axes.texts[0].xyann[1] < 0.0 < axes.texts[1].xyann[1]
    assert not axes.texts[0].get_parse_math()
    made.png()


def test_no_labels_are_no_labels() -> None:
    with drawing(4.0, 3.0) as made:
        axes = made.add_axes((0.1, 0.1, 0.6, 0.8))
        label_at_right(axes, [])
    assert list(axes.texts) == []
