"""The charts as a reader and as a screen reader gets them: parsed, measured, and read."""

import itertools
import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm_lab.views.live.chart_frame import HEIGHT, WIDTH
from cllm_lab.views.live.charts import loss_chart, norms_chart, update_chart
from cllm_lab.views.live.series import GROUPS, Curves, Point, Series
from cllm_lab.views.live.style import STROKES, escaped, style_sheet

LEVELS = {"ln V": 6.0, "H1": 4.0, "H2": 1.5}
BAND = (3.1e-4, 1.1e-2)
SVG = "{http://www.w3.org/2000/svg}"
# A label takes no more than this a letter in DejaVu Sans at the charts' font size, nor is it taller.
LETTER, TALL = 7.2, 10.0
EMPTY = Curves()


def points(values, first: int = 1, most: int = 300) -> tuple[Point, ...]:
    series = Series(most)
    for step, value in enumerate(values, start=first):
        series.add(step, value)
    return series.points()


def run_of(loss=(), norms=None, update=(), validation=()) -> Curves:
    groups = {group: points(values) for group, values in (norms or {}).items()}
    return Curves(points(loss), tuple(validation), groups, points(update))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def words(svg: str) -> str:
    root = parsed(svg)
    assert root.tag == SVG + "svg" and root.get("role") == "img"
    return root.get("aria-label")


def texts(svg: str) -> list[str]:
    return [
        (element.find(f"{SVG}title") is not None and element[0].tail) or element.text
        for element in text_elements(svg)
    ]


def text_elements(svg: str) -> list[ElementTree.Element]:
    return list(parsed(svg).iter(SVG + "text"))


def drawn(svg: str, kind: str) -> list[list[tuple[float, float]]]:
    """The places of every path of exactly these classes, in order."""
    found = []
    for path in parsed(svg).iter(SVG + "path"):
        if path.get("class") == kind:
            pairs = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d"))
            found.append([(float(x), float(y)) for x, y in pairs])
    return found


def place_of(svg: str, text: str) -> tuple[float, float]:
    (element,) = [e for e in text_elements(svg) if (e.text or "") == text]
    return float(element.get("x")), float(element.get("y"))


def boxes(svg: str) -> list[tuple[str, float, float, float]]:
    """Text, left, right and base line of every label."""
    found = []
    for element in text_elements(svg):
        text = "".join(element.itertext()) if element.text else element[0].tail
        x, width = float(element.get("x")), LETTER * len(text)
        shift = {None: 0.0, "middle": width / 2.0, "end": width}[element.get("text-anchor")]
        found.append((text, x - shift, x - shift + width, float(element.get("y"))))
    return found


def require_readable(svg: str) -> None:
    found = boxes(svg)
    for text, left, right, base in found:
        assert -1.0 <= left and right <= WIDTH + 1.0 and TALL <= base <= HEIGHT, text
    for one, other in itertools.combinations(found, 2):
        apart = one[2] <= other[1] or other[2] <= one[1] or abs(one[3] - other[3]) >= TALL
        assert apart, f"{one} meets {other}"


# Loss.


def test_the_loss_is_drawn_where_its_values_are() -> None:
    svg = loss_chart(run_of([6.0, 4.0, 1.5]), None, LEVELS, [])
    (line,) = [path for path in drawn(svg, "line training") if len(path) == 3]
    levels = [y for (_, y) in (place_of(svg, text) for text in ("ln V 6.00", "H1 4.00", "H2 1.50"))]
    assert [y for _, y in line] == pytest.approx([y - 4.5 for y in levels], abs=0.06)
    assert line[0][0] < line[1][0] < line[2][0]
    assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0], abs=0.11)


def test_the_loss_in_words() -> None:
    said = words(loss_chart(run_of([6.0, 3.0, 3.4]), None, LEVELS, []))
    assert "steps 1 to 3" in said
    assert "Training: 6.00 at the start, 3.40 at step 3, lowest 3.00 at step 2; 0.60 below H1 (4.00)" in said
    assert "Levels: ln V 6.00, H1 4.00, H2 1.50." in said


@pytest.mark.parametrize(
    ("loss", "relation"),
    [(5.995, "that is ln V (6.00)"), (4.5, "0.50 above H1 (4.00)"), (1.0, "0.50 below H2 (1.50)")],
)
def test_words_relate_the_loss_to_the_nearest_level(loss: float, relation: str) -> None:
    assert relation in words(loss_chart(run_of([loss]), None, LEVELS, []))


def test_the_band_reaches_from_lowest_to_highest() -> None:
    run = Curves(loss=(Point(1, 2, 3.0, 2.0, 5.0), Point(3, 4, 3.0, 1.0, 4.0)))
    svg = loss_chart(run, None, {}, [])
    (band,) = drawn(svg, "band training")
    (line,) = drawn(svg, "line training")[1:]
    assert [x for x, _ in band] == [line[0][0], line[1][0], line[1][0], line[0][0]]
    unit = (band[3][1] - band[0][1]) / 3.0
    assert [(line[0][1] - y) / unit for _, y in band] == pytest.approx([2.0, 1.0, -2.0, -1.0], abs=0.01)
    assert not drawn(loss_chart(run_of([3.0, 2.0]), None, {}, []), "band training")


def test_an_exploding_loss_is_cut_off_and_says_so() -> None:
    svg = loss_chart(run_of([6.0, 3.0, 120_000.0]), None, LEVELS, [])
    line = max(drawn(svg, "line training"), key=len)
    note = "training goes off the chart: up to 1.2e5"
    assert note in texts(svg) and note[1:] in words(svg)
    assert line[0][1] - line[2][1] > 50.0 and line[1][1] - line[0][1] > 30.0
    assert line[2][1] == pytest.approx(min(y for path in drawn(svg, "line training")[1:] for _, y in path))
    calm = loss_chart(run_of([6.0, 3.0, 11.9]), None, LEVELS, [])
    assert "off the chart" not in calm


def test_a_run_that_never_comes_down_to_the_levels_is_still_shown() -> None:
    svg = loss_chart(run_of([30.0, 25.0, 28.0]), None, LEVELS, [])
    assert "off the chart" not in svg
    line = max(drawn(svg, "line training"), key=len)
    assert line[1][1] - line[0][1] > 10.0


@pytest.mark.parametrize(
    ("values", "said", "note"),
    [
        ([6.0, 5.0, math.nan, math.nan], "NaN from step 3 on", "NaN from step 3 on"),
        ([6.0, math.inf, 5.0, 5.0], "infinite at step 2", "infinite at step 2"),
        (
            [6.0, math.inf, 5.0, math.nan, 5.0],
            "NaN and infinite first at step 2, last at step 4",
            "infinite first at step 2",
        ),
        ([math.nan], "NaN from step 1 on", "NaN from step 1 on"),
    ],
)
def test_a_loss_that_is_not_finite_is_marked_at_its_place(values: list[float], said: str, note: str) -> None:
    svg = loss_chart(run_of(values), None, LEVELS, [])
    assert f"Training: {said}." in words(svg)
    assert f"training {note}" in texts(svg)
    shade = [e for e in parsed(svg).iter(SVG + "rect") if e.get("class") == "band alarm"]
    assert len(shade) == (2 if "first" in said else 1)
    failed = next(i for i, value in enumerate(values) if not math.isfinite(value))
    ticks = {text: (left + right) / 2.0 for text, left, right, base in boxes(svg) if base == HEIGHT - 5.0}
    unit = (ticks["10"] - ticks["0"]) / 10.0
    assert float(shade[0].get("x")) == pytest.approx(ticks["0"] + (failed + 0.5) * unit, abs=0.1)


def test_validation_has_markers_and_its_own_words() -> None:
    validation = (Point(2, 2, 5.0, 5.0, 5.0), Point(4, 4, 4.0, 4.0, 4.0))
    svg = loss_chart(run_of([6.0, 5.0, 4.0, 3.0], validation=validation), None, LEVELS, [])
    (marked, newest) = drawn(svg, "dots validation")
    (line,) = [path for path in drawn(svg, "line validation") if len(path) == 2]
    assert marked == line and newest == [line[1]]
    assert "Validation: 5.00 at the start, 4.00 at step 4" in words(svg)
    assert "validation 4.00" in texts(svg)


def test_the_previous_run_is_drawn_named_and_compared() -> None:
    svg = loss_chart(run_of([6.0, 5.0]), run_of([5.5, 4.5, 3.5]), LEVELS, [])
    (ghost,) = [path for path in drawn(svg, "ghost previous") if len(path) == 3]
    line = max(drawn(svg, "line training"), key=len)
    assert ghost[0][0] == line[0][0] and ghost[0][1] > line[0][1]
    assert "previous run" in texts(svg)
    assert "Previous run: 4.50 at step 2, 3.50 at its end, step 3." in words(svg)


def test_a_long_previous_run_does_not_press_the_run_into_a_corner() -> None:
    svg = loss_chart(run_of([6.0] * 20), run_of([5.0] * 3000), LEVELS, [])
    line = max(drawn(svg, "line training"), key=len)
    assert line[-1][0] - line[0][0] > 20.0
    assert "its end, step 3000" in words(svg)
    ghost = max(drawn(svg, "ghost previous"), key=len)
    assert len({x for x, _ in ghost}) == len(ghost)


# Logarithmic charts.


def test_norms_that_are_exactly_zero_are_drawn_and_named() -> None:
    norms = {"embedding": [0.5] * 4, "attention": [0.0] * 4, "ff": [0.0] * 4, "ln": [0.1, 0.0, 0.0, 0.01]}
    svg = norms_chart(run_of(norms=norms), None, [])
    said = words(svg)
    assert "attention, ff: exactly 0 at every step." in said
    assert "ln: 0.1 at the start, 0.01 now, exactly 0 last at step 3." in said
    assert "embedding: 0.5 at the start, 0.5 now." in said
    floor = place_of(svg, "exactly 0")[1]
    flat = [next(p for p in drawn(svg, f"line {group}") if len(p) == 4) for group in ("attention", "ff")]
    for path in flat:
        assert len({y for _, y in path}) == 1
        assert abs(path[0][1] - floor) < 12.0
    assert flat[0][0][1] != flat[1][0][1]
    lowest = max(y for _, y in max(drawn(svg, "line embedding"), key=len))
    assert lowest < min(path[0][1] for path in flat)
    (zeros,) = [path for path in drawn(svg, "line ln") if len(path) == 2]
    assert zeros[0][1] > lowest


def test_a_stretch_that_touched_zero_leaves_a_dot_on_the_floor() -> None:
    run = Curves(update=(Point(1, 2, 0.5, 0.0, 1.0), Point(3, 4, 0.5, 0.2, 1.0)))
    svg = update_chart(run, None, BAND, [])
    (touched, newest) = drawn(svg, "dots update")
    assert len(touched) == 1 and touched[0][1] > newest[0][1]
    assert "exactly 0 last at steps 1 to 2" in words(svg)


def test_without_zeros_there_is_no_floor() -> None:
    svg = norms_chart(run_of(norms={"ff": [1.0, 2.0]}), None, [])
    assert "exactly 0" not in svg and "not finite" not in svg


def test_norms_that_are_not_finite_lie_on_the_ceiling() -> None:
    svg = norms_chart(run_of(norms={"ff": [1.0, math.inf, math.nan]}), None, [])
    assert "not finite" in texts(svg)
    assert "ff: 1 at the start, NaN and infinite from step 2 on." in words(svg)
    (failed,) = [path for path in drawn(svg, "line ff") if len(path) == 2]
    (dot, *_) = drawn(svg, "dots ff")
    assert failed[0][1] < dot[0][1]


def test_the_axis_is_logarithmic() -> None:
    svg = norms_chart(run_of(norms={"ff": [1e-3, 1e-2, 1.0]}), None, [])
    line = max(drawn(svg, "line ff"), key=len)
    assert (line[1][1] - line[2][1]) == pytest.approx(2.0 * (line[0][1] - line[1][1]), abs=0.3)
    assert {"1e-3", "0.01", "0.1", "1"} <= set(texts(svg))


def test_the_groups_are_named_beside_the_ends_of_their_lines() -> None:
    norms = {"embedding": [1.0, 9.0], "attention": [1.0, 5e-3], "ff": [1.0, 6e-3], "ln": [1.0, 1e-5]}
    svg = norms_chart(run_of(norms=norms), None, [])
    heights = {group: place_of(svg, group)[1] - 4.5 for group in GROUPS}
    ends = {group: drawn(svg, f"line {group}")[0][-1][1] for group in GROUPS}
    assert sorted(GROUPS, key=heights.get) == sorted(GROUPS, key=ends.get)
    assert heights["attention"] - heights["ff"] >= TALL
    for group in ("embedding", "ff"):
        assert heights[group] == pytest.approx(ends[group], abs=0.11)
    swatches = {group: drawn(svg, f"line {group}")[1][0] for group in GROUPS}
    for group, (x, y) in swatches.items():
        assert y == pytest.approx(heights[group], abs=0.06) and x > drawn(svg, f"line {group}")[0][-1][0]


@pytest.mark.parametrize(("value", "where"), [(1e-5, "below"), (1e-3, "inside"), (0.5, "above")])
def test_updates_are_compared_with_the_band(value: float, where: str) -> None:
    svg = update_chart(run_of(update=[value]), None, BAND, [])
    assert f"{where} the band of healthy runs" in words(svg)
    assert "healthy runs: 3.1e-4 to 1.1e-2" in texts(svg)
    shade = [e for e in parsed(svg).iter(SVG + "rect") if e.get("class") == "band healthy"][-1]
    top, tall = float(shade.get("y")), float(shade.get("height"))
    ((_, y),) = drawn(svg, "dots update")[0]
    assert ("above" if y < top else "below" if y > top + tall else "inside") == where


def test_updates_of_exactly_zero() -> None:
    svg = update_chart(run_of(update=[0.0, 0.0]), run_of(update=[1e-3, 1e-3]), BAND, [])
    assert "this run: exactly 0 at every step." in words(svg)
    assert "this run exactly 0" in texts(svg)
    assert "The previous run is shown too." in words(svg)
    assert len(drawn(svg, "ghost previous")) == 2


def test_a_redraw_is_small_enough_to_be_sent_often() -> None:
    """300 points and a previous run: paths with one decimal, and no tooltip for a point."""
    rng = np.random.default_rng(0)
    falls = (np.linspace(6.0, 1.0, 300) * (1.0 + 0.1 * rng.standard_normal(300))).tolist()
    run = run_of(falls, dict.fromkeys(GROUPS, falls), falls)
    svgs = [loss_chart(run, run, LEVELS, []), norms_chart(run, run, []), update_chart(run, run, BAND, [])]
    assert sum(map(len, svgs)) < 60_000
    for svg in svgs:
        assert not list(parsed(svg).iter(SVG + "title"))
        assert not re.search(
            r"\d\.\d\d", "".join(p.get("d") for p in parsed(svg).iter(SVG + "path")).replace("h.01", "")
        )


# Every chart.

CHARTS: dict[str, Callable[..., str]] = {
    "loss": lambda run, ghost, marks: loss_chart(run, ghost, LEVELS, marks),
    "norms": norms_chart,
    "update": lambda run, ghost, marks: update_chart(run, ghost, BAND, marks),
}


@pytest.fixture(params=CHARTS)
def chart(request) -> Callable[..., str]:
    return CHARTS[request.param]


def everywhere(values) -> Curves:
    """The same values in every curve."""
    return run_of(values, dict.fromkeys(GROUPS, values), values, points(values))


def test_without_steps_there_is_a_frame_that_says_so(chart) -> None:
    svg = chart(EMPTY, None, [])
    assert "no steps yet" in texts(svg) and "no steps yet" in words(svg)
    assert "no steps yet" not in chart(everywhere([1.0]), None, [])
    waiting = chart(EMPTY, everywhere([1.0, 2.0]), [])
    assert "no steps yet" in texts(waiting) and "no steps yet" in words(waiting)
    assert "previous run" in texts(waiting)


def test_one_step_is_a_dot(chart) -> None:
    svg = chart(everywhere([1.0]), None, [])
    dots = [p.get("class") for p in parsed(svg).iter(SVG + "path") if p.get("class").startswith("dots")]
    assert dots
    assert "step 1." in words(svg)


def test_edits_stand_at_their_steps_and_are_said(chart) -> None:
    svg = chart(everywhere([1.0] * 100), None, [(20, "zero-init on"), (60, "clip off")])
    lines = [p for p in parsed(svg).iter(SVG + "path") if p.get("class") == "thin mark"]
    ticks = {text: (left + right) / 2.0 for text, left, right, base in boxes(svg) if base == HEIGHT - 5.0}
    xs = [float(re.match(r"M([\d.]+)", p.get("d"))[1]) for p in lines]
    assert xs == pytest.approx([ticks["20"], ticks["60"]], abs=0.11)
    assert {"zero-init on", "clip off"} <= set(texts(svg))
    assert "Changed: step 20, zero-init on; step 60, clip off." in words(svg)


def test_long_texts_of_edits_are_whole_in_their_tooltips(chart) -> None:
    long = "learning rate 0.001 -> 0.01, and then\nclip off"
    svg = chart(everywhere([1.0] * 100), None, [(20, long)])
    (shown,) = [element for element in text_elements(svg) if element.get("class") == "note"]
    assert shown[0].tail == "learning rate 0.001 -> 0.01, …"
    assert shown[0].text == long.replace("\n", "\\n")


def test_no_line_of_an_edit_crosses_the_text_of_another(chart) -> None:
    marks = [(40, "edit one"), (42, "edit number two"), (65, "edit number three")]
    svg = chart(everywhere([1.0] * 100), None, marks)
    shown = [box for box in boxes(svg) if box[0].startswith("edit")]
    assert len(shown) >= 2
    for path in parsed(svg).iter(SVG + "path"):
        if path.get("class") == "thin mark":
            x, top = (float(n) for n in re.match(r"M([\d.]+) ([\d.]+)V", path.get("d")).groups())
            assert not [box for box in shown if box[1] < x < box[2] and top < box[3] - 1.0]


def test_text_of_others_cannot_become_markup(chart) -> None:
    evil = "<script>alert(1)</script>\"'&\x00\n"
    svg = chart(everywhere([1.0] * 5), None, [(2, evil)])
    assert "<script" not in svg and "\x00" not in svg
    assert not list(parsed(svg).iter(SVG + "script"))
    assert "<script>alert(1)" in words(svg)
    named = loss_chart(run_of([1.0]), None, {evil: 2.0}, [])
    assert "<script" not in named and "<script>" in words(named)


def test_escaped() -> None:
    assert escaped("<a href='x'>\"&\n\x1b") == "&lt;a href=&#x27;x&#x27;&gt;&quot;&amp;\\n\\x1b"


VALUES = st.lists(
    st.one_of(
        st.floats(min_value=1e-3, max_value=20.0),
        st.sampled_from([0.0, 6.0, math.nan, math.inf, 5e-324, 1e300, 1e12, 1e-30]),
    ),
    max_size=25,
)
MARKS = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=45),
    ),
    max_size=8,
).map(lambda marks: sorted(marks, key=lambda mark: mark[0]))


@settings(max_examples=30, deadline=None)
@given(values=VALUES, before=VALUES, marks=MARKS, first=st.sampled_from([1, 95, 1_234_567]))
def test_whatever_happens_labels_do_not_meet_and_lines_stay_inside(values, before, marks, first) -> None:
    def curves(numbers) -> Curves:
        series = points(numbers, first, most=20)
        return Curves(series, series, dict.fromkeys(GROUPS, series), series)

    moved = [(step + first, text) for step, text in marks]
    for draw in CHARTS.values():
        svg = draw(curves(values), curves(before), moved)
        require_readable(svg)
        for path in parsed(svg).iter(SVG + "path"):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+|nan|inf", path.get("d"))]
            assert all(math.isfinite(n) and -1.0 <= n <= WIDTH + 1.0 for n in numbers)


def test_no_ids_that_could_clash(chart) -> None:
    svg = chart(everywhere([1.0, 0.0, math.nan]), everywhere([2.0]), [(1, "edit")])
    assert not [e for e in parsed(svg).iter() if e.get("id")]


def test_strange_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norms must be of the groups embedding.*got 'bias'"):
        norms_chart(run_of(norms={"bias": [1.0]}), None, [])
    with pytest.raises(ValueError, match="levels must be finite; got nan for 'H1'"):
        loss_chart(EMPTY, None, {"H1": math.nan}, [])
    for band in ((0.0, 1.0), (1.0, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="band must be"):
            update_chart(EMPTY, None, band, [])


# Colours.


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def colours(sheet: str, dark: bool) -> dict[str, str]:
    blocks = re.findall(r"^(.*?) \{ (--cllm-.*?) \}$", sheet, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for selector, body in blocks:
        if dark or "data-jp-theme-light" not in selector:
            found |= dict(re.findall(r"--cllm-(\S+): (.*?);", body))
    return found


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#111111"), (True, "#212121")])
def test_lines_can_be_seen_on_both_grounds(dark: bool, ground: str) -> None:
    found = colours(style_sheet(), dark)
    assert set(STROKES) <= set(found)
    for name in STROKES:
        assert contrast(found[name], ground) >= 3.0, name


def test_text_can_be_read_on_both_grounds() -> None:
    found = colours(style_sheet(), dark=False)
    text, ground = (re.search(r", (#\w+)\)", found[name])[1] for name in ("text", "ground"))
    assert contrast(text, "#ffffff" if ground == "#fff" else ground) >= 4.5
    assert found["text"].startswith("var(--jp-ui-font-color1,")
    assert found["ground"].startswith("var(--jp-layout-color0,")
    assert contrast("#ffffff", "#212121") >= 4.5
    # Words are never in the colour of a line, so their contrast is that of the page's text.
    assert "text { fill: var(--cllm-text)" in style_sheet()


# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
COLOUR_BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array(TO_XYZ) @ rgb / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    return np.array([116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", COLOUR_BLIND)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shown", [GROUPS, ("training", "validation", "previous")])
def test_colour_blind_eyes_tell_the_lines_apart(eye: str, dark: bool, shown: tuple[str, ...]) -> None:
    found = colours(style_sheet(), dark)
    seen = {name: lab(np.clip(np.array(COLOUR_BLIND[eye]) @ linear(found[name]), 0.0, 1.0)) for name in shown}
    for one, other in itertools.combinations(shown, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15.0, (one, other)
    dashes = [STROKES[name].dash for name in shown]
    assert len(set(dashes)) == len(dashes)


def test_the_style_sheet_is_scoped_and_nothing_moves() -> None:
    sheet = style_sheet()
    assert sheet.startswith("<style>") and sheet.endswith("</style>") and sheet.count("<") == 2
    selectors = re.findall(r"^([^{}\n]+?) \{", sheet, flags=re.MULTILINE)
    assert len(selectors) > 10
    assert all(".cllm-live" in each or each.startswith("@container cllm-live") for each in selectors)
    assert not re.search("animation|transition|@keyframes", sheet)


def test_every_stroke_that_is_drawn_has_a_rule() -> None:
    run, ghost = everywhere([1.0, 0.0, math.nan, 1e9, 2.0]), everywhere([1.0, 2.0])
    sheet = style_sheet()
    for draw in CHARTS.values():
        for element in parsed(draw(run, ghost, [(1, "edit")])).iter():
            for name in (element.get("class") or "").split():
                if name in STROKES:
                    assert f".cllm-chart .{name} {{ stroke: var(--cllm-{name});" in sheet
                else:
                    assert f".cllm-chart .{name} {{" in sheet or name == "cllm-chart", name
