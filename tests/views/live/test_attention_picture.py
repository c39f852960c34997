"""The picture of attention: its pixels, its words, its tooltips."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cllm_lab.views.live.attention_picture import (
    BELOW,
    GAP,
    LEFT,
    NOT_FINITE_COLOUR,
    OUTSIDE_COLOUR,
    ZERO_COLOUR,
    attention_chart,
)
from cllm_lab.views.live.chart_frame import FONT, HEIGHT, WIDTH

SVG = "{http://www.w3.org/2000/svg}"
TOKENS = ["the", "cat", "sat", "<b>", "\n", "end"]
T = len(TOKENS)
ITSELF = np.eye(T)
PREVIOUS = np.eye(T, k=-1) + np.eye(T) * (np.arange(T) == 0)
FIRST = np.outer(np.ones(T), np.arange(T) == 0)
EVEN = np.tri(T) / np.arange(1, T + 1)[:, None]


def picture(*heads: np.ndarray, tokens: list[str] = TOKENS, layer: int = 2) -> ElementTree.Element:
    return ElementTree.fromstring(attention_chart(np.stack(heads), tokens, layer))


def said(*heads: np.ndarray) -> str:
    root = picture(*heads)
    assert root.tag == SVG + "svg" and root.get("role") == "img"
    return root.get("aria-label")


def pixels(root: ElementTree.Element) -> list[np.ndarray]:
    found = []
    for image in root.iter(SVG + "image"):
        data = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
        found.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    return found


def brightness(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.2126, 0.7152, 0.0722])


def test_each_head_is_a_map_of_its_own_row_by_row() -> None:
    head = np.zeros((T, T))
    head[:, 0] = 1.0
    head[4, :3] = [0.7, 0.1, 0.2]
    first, second, *_ = pixels(picture(head, head.T))
    assert first.shape == (T, T, 3)
    assert np.array_equal(second, first.transpose(1, 0, 2))
    shown = brightness(first)
    assert shown[0, 0] > shown[4, 0] > shown[4, 2] > shown[4, 1]
    assert (first[1, 1:] == ZERO_COLOUR).all()


def test_small_weights_are_not_taken_for_zero_nor_for_one_another() -> None:
    weights = np.array([0.0, 1e-9, 0.004, 0.02, 0.05, 1.0])
    head = np.zeros((T, T))
    head[0] = weights
    row = pixels(picture(head))[0][0]
    assert tuple(row[0]) == ZERO_COLOUR
    assert tuple(row[1]) != ZERO_COLOUR
    assert (np.diff(brightness(row[1:])) > 5.0).all()


def test_what_is_not_finite_is_red_and_said() -> None:
    broken = EVEN.copy()
    broken[3, 1], broken[4, 0] = np.nan, np.inf
    (map_, *_) = pixels(picture(broken))
    assert tuple(map_[3, 1]) == tuple(map_[4, 0]) == NOT_FINITE_COLOUR
    assert tuple(map_[3, 0]) != NOT_FINITE_COLOUR
    assert "head 1: not finite." in said(EVEN, broken)


def test_weights_that_no_softmax_leaves_have_a_colour_of_their_own() -> None:
    root = picture(1.5 * ITSELF - 0.5 * FIRST)
    (map_, *_) = pixels(root)
    assert tuple(map_[2, 2]) == tuple(map_[2, 0]) == OUTSIDE_COLOUR
    assert tuple(map_[2, 1]) == ZERO_COLOUR
    texts = ["".join(text.itertext()) for text in root.iter(SVG + "text")]
    assert "outside 0 to 1" in texts and "not finite" not in texts
    assert "outside 0 to 1" not in ["".join(text.itertext()) for text in picture(EVEN).iter(SVG + "text")]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (ITSELF, "looks mostly at itself (100%)"),
        (PREVIOUS, "looks mostly at the previous token (100%)"),
        (FIRST, "looks mostly at the first token (100%)"),
        (EVEN, "spread evenly"),
        (np.full((T, T), 1.0 / T), "spread evenly; 42% of its weight is on later tokens"),
        (
            0.9 * EVEN + 0.1 * (np.arange(T) == T - 1),
            "mixed; 8% of its weight is on later tokens",
        ),
        (0.7 * ITSELF + 0.3 * FIRST, "looks mostly at itself (70%)"),
        (0.4 * ITSELF + 0.35 * FIRST + 0.25 * PREVIOUS, "mixed, 40% on itself"),
        (0.5 * EVEN, "spread evenly; its rows do not all sum to 1"),
        (1.5 * ITSELF - 0.5 * FIRST, "weights outside 0 to 1, from -0.5 to 1.5"),
        (np.zeros((T, T)), "looks at nothing; its rows do not all sum to 1"),
    ],
)
def test_words_tell_where_a_head_looks(head: np.ndarray, words: str) -> None:
    assert re.fullmatch(rf"Attention of layer 2, 1 head, 6 tokens\. head 0: {re.escape(words)}\.", said(head))


def test_heads_that_are_alike_are_told_together() -> None:
    assert "heads 0, 2: looks mostly at itself (100%). head 1: spread evenly." in said(ITSELF, EVEN, ITSELF)


def test_one_and_two_tokens() -> None:
    assert "one token" in attention_chart([[[1.0]]], ["a"], 0)
    assert "looks mostly at itself" in attention_chart([[[1.0, 0.0], [0.1, 0.9]]], ["a", "b"], 0)


def test_heads_have_titles_and_do_not_meet() -> None:
    root = picture(*[EVEN] * 6)
    texts = ["".join(text.itertext()) for text in root.iter(SVG + "text")]
    assert [text for text in texts if text.startswith("head ")] == [f"head {h}" for h in range(6)]
    assert any("layer 2" in text and "row" in text and "column" in text for text in texts)
    places = [
        tuple(float(image.get(name)) for name in ("x", "y", "width", "height"))
        for image in root.iter(SVG + "image")
    ][:6]
    tall = float(root.get("viewBox").split()[-1])
    for number, (x, y, width, height) in enumerate(places):
        assert width == height and x + width <= 480.05 and y + height <= tall
        for left, top, *_ in places[number + 1 :]:
            assert left >= x + width or top >= y + height or left + width <= x


def test_tooltips_name_the_row_and_its_favourite() -> None:
    root = picture(PREVIOUS)
    tips = [title.text for title in root.iter(SVG + "title")]
    assert tips[1] == "head 0, 'cat' (1) looks most at 'the' (0): 1.00"
    assert tips[4] == "head 0, '\\n' (4) looks most at '<b>' (3): 1.00"
    assert "<b>" not in attention_chart(PREVIOUS[None], TOKENS, 0)


def test_many_rows_have_one_tooltip_a_head() -> None:
    n = 80
    heads = np.tile(np.tri(n) / np.arange(1, n + 1)[:, None], (8, 1, 1))
    root = ElementTree.fromstring(attention_chart(heads, ["x"] * n, 0))
    tips = [title.text for title in root.iter(SVG + "title")]
    assert tips == [f"head {h}: spread evenly" for h in range(8)]


def test_float32_rows_are_no_different() -> None:
    assert said(EVEN.astype(np.float32)) == said(EVEN)


@pytest.mark.parametrize(
    ("weights", "tokens", "message"),
    [
        (np.zeros((2, 3)), ["a"] * 3, r"weights must have shape \(heads, T, T\); got \(2, 3\)"),
        (np.zeros((1, 2, 3)), ["a"] * 3, "weights must have shape"),
        (np.zeros((0, 2, 2)), ["a"] * 2, "weights must have shape"),
        (np.zeros((1, 2, 2)), ["a"] * 3, "tokens must be the 2 tokens of the weights; got 3"),
    ],
)
def test_strange_arguments_are_refused(weights: np.ndarray, tokens: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_chart(weights, tokens, 0)


@pytest.mark.parametrize("n_heads", [1, 2, 4, 8, 16, 64])
def test_the_picture_has_the_format_of_the_charts_and_uses_it(n_heads: int) -> None:
    root = picture(*[EVEN] * n_heads)
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    maps = [
        [float(image.get(name)) for name in ("x", "y", "width", "height")]
        for image in root.iter(SVG + "image")
    ][:n_heads]
    right = max(x + width for x, _, width, _ in maps)
    bottom = max(y + height for _, y, _, height in maps)
    assert right <= WIDTH and bottom <= HEIGHT - BELOW
    # It is the width or the height that stops the maps from being larger.
    assert right > WIDTH - 2.0 * LEFT - 1.0 or bottom > HEIGHT - BELOW - GAP - 1.0
    (lowest,) = {float(t.get("y")) for t in root.iter(SVG + "text") if t.text == "exactly 0"}
    assert bottom < lowest <= HEIGHT


def test_small_maps_are_named_by_a_number_that_fits() -> None:
    root = picture(*[EVEN] * 16)
    width = next(float(image.get("width")) for image in root.iter(SVG + "image"))
    names = [text.text for text in root.iter(SVG + "text")][1:17]
    assert names == [str(h) for h in range(16)]
    assert 0.6 * FONT * max(map(len, names)) < width


def test_a_picture_of_the_bench_is_small_enough_to_be_sent_often() -> None:
    rng = np.random.default_rng(0)
    heads = np.tril(np.exp(3.0 * rng.random((4, 32, 32))))
    heads /= heads.sum(axis=-1, keepdims=True)
    assert len(attention_chart(heads, [f"token{i}" for i in range(32)], 1)) < 25_000
