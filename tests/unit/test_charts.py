"""Drawings of the report: what is drawn where, and that nothing lies on anything else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.profiling.charts.columns import column_chart
from headgate.profiling.charts.heatmap import Cell, heat_map
from headgate.profiling.charts.labels import Box, place_labels
from headgate.profiling.charts.scatter import Point, key_mark, pareto_front, scatter
from headgate.profiling.charts.svg import Axis, axis_around

VALUES = st.integers(0, 6).map(float)  # few values, so that there are ties
COORDINATES = st.tuples(st.floats(70, 730), st.floats(40, 370))
FRAME = Box(64, 34, 676, 344)


def dominated(costs: list[float], values: list[float], index: int) -> bool:
    return any(
        costs[other] <= costs[index]
        and values[other] >= values[index]
        and (costs[other], values[other]) != (costs[index], values[index])
        for other in range(len(costs))
    )


@given(st.lists(st.tuples(VALUES, VALUES), max_size=12))
def test_pareto_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    costs, values = [cost for cost, _ in points], [value for _, value in points]
    front = pareto_front(costs, values)
    assert sorted(front) == [i for i in range(len(points)) if not dominated(costs, values, i)]
    assert [costs[index] for index in front] == sorted(costs[index] for index in front)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 12))
def test_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    axis = Axis(low, low + span, 0.0, 100.0)
    ticks = axis.ticks(count)
    assert len(ticks) <= count + 1
    slack = 1e-6 * (span + abs(low))
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_axis_maps_its_ends() -> None:
    axis = Axis(10.0, 20.0, 300.0, 100.0)
    assert (axis(10.0), axis(15.0), axis(20.0)) == (300.0, 200.0, 100.0)
    assert axis.ticks(5) == [10, 12, 14, 16, 18, 20]


@pytest.mark.parametrize("high, ticks", [(1.05, [0, 1]), (3.15, [0, 1, 2, 3]), (10.5, [0, 5, 10])])
def test_ticks_of_whole_numbers_are_whole(high: float, ticks: list[int]) -> None:
    assert Axis(0, high, 0, 100, whole=True).ticks(5) == ticks


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_axis_has_room_around_its_values(values: list[float]) -> None:
    axis = axis_around(values, 0.0, 100.0)
    assert axis.low < min(values) <= max(values) < axis.high


@given(st.lists(COORDINATES, min_size=1, max_size=18))
def test_labels_lie_on_nothing(points: list[tuple[float, float]]) -> None:
    names = [f"network-{index}" for index in range(len(points))]
    boxes = place_labels(points, names, FRAME, 6.0)
    placed = [box for box in boxes if box is not None]
    assert len(placed) == len(points)  # the frame has room for these
    assert all(box.inside(FRAME) for box in placed)
    assert not any(one.overlaps(other) for one, other in combinations(placed, 2))
    markers = [Box(x - 6, y - 6, 12, 12) for x, y in points]
    assert not any(box.overlaps(marker) for box in placed for marker in markers)


def test_label_without_room_is_left_out() -> None:
    assert place_labels([(5.0, 5.0)], ["a long name"], Box(0, 0, 20, 20), 3.0) == [None]


def points() -> list[Point]:
    return [
        Point("dense", 12.5e6, 0.8757, "dense", "solid", "dense: 87.57 %"),
        Point("fbs <b>", 6.6e6, 0.8519, "fbs", "solid", "fbs & more"),
        Point("worse", 9.0e6, 0.85, "unheard-of", "hollow", "worse"),
        Point("int8", 12.5e6, 0.87, "dense", "dotted", "int8"),
    ]


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


def draw_points() -> str:
    return scatter(points(), "four", "MACs", "accuracy", lambda v: f"{v:g}", lambda v: f"{v:.3f}")


def test_scatter_is_xml_with_a_text_alternative_and_tooltips() -> None:
    root = parse(draw_points())
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "four"
    titles = [one.text for one in root.iter("title")]
    assert titles[0] == "four"
    assert {"dense: 87.57 %", "fbs & more", "worse", "Pareto front"} <= set(titles)
    names = [one.text for one in root.iter("text")]
    assert {"dense", "fbs <b>", "worse", "int8"} <= set(names)


def test_scatter_marks_differ_in_shape_and_fill() -> None:
    groups = [one for one in parse(draw_points()).iter("g") if "mark" in one.get("class", "")]
    kinds = [one.attrib["class"] for one in groups]
    assert kinds == ["mark dense solid", "mark fbs solid", "mark other hollow", "mark dense hollow"]
    assert [one[0].tag for one in groups] == ["rect", "circle", "path", "rect"]
    assert groups[3][1].attrib["class"] == "dot"


def test_every_fill_looks_different() -> None:
    marks = {key_mark("fbs", fill) for fill in ("solid", "cored", "hollow", "dotted")}
    assert len(marks) == 4
    assert key_mark("fbs") == key_mark("fbs", "solid")


def test_scatter_names_the_front_in_bold() -> None:
    texts = [one for one in parse(draw_points()).iter("text") if "point" in one.get("class", "")]
    bold = {one.text for one in texts if "front" in one.attrib["class"]}
    assert bold == {"dense", "fbs <b>"}


def test_scatter_of_one_point_at_zero() -> None:
    only = [Point("one", 0.0, 0.0, "dense", "solid", "one")]
    parse(scatter(only, "one", "MACs", "accuracy", str, str))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=24))
def test_columns_stay_inside_their_drawing(counts: list[int]) -> None:
    edges = list(range(len(counts) + 1))
    titles = [str(count) for count in counts]
    drawing = column_chart(counts, edges, "gated", "t", titles, "x", "y", str, str, mark=0.5)
    root = parse(drawing)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    rects = list(root.iter("rect"))
    assert len(rects) == len(counts)
    for rect in rects:
        x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width
        assert y >= 0 and h >= 0 and y + h <= height
    tallest = max(range(len(counts)), key=lambda index: counts[index])
    heights = [float(rect.attrib["height"]) for rect in rects]
    assert heights[tallest] == max(heights)


def test_columns_start_at_their_floor() -> None:
    drawing = column_chart(
        [10.0, 11.0], [0, 1, 2], "k", "t", ["a", "b"], "x", "y", str, str, floor=10.0
    )
    heights = [float(one.attrib["height"]) for one in parse(drawing).iter("rect")]
    assert heights[0] == 0 < heights[1]


def test_heat_map_says_its_numbers() -> None:
    cells = [[Cell(0.5, "half"), None], [Cell(1.0, "all"), Cell(0.004, "little")]]
    drawing = heat_map(["conv1", "conv2"], ["a", "b"], cells, "densities")
    root = parse(drawing)
    texts = [one.text for one in root.iter("text")]
    assert texts == ["a", "b", "conv1", "50", "conv2", "100", "0"]
    opacities = [float(one) for one in re.findall(r'fill-opacity="([^"]+)"', drawing)]
    assert opacities == [0.5, 1.0, 0.004]
    assert [one.text for one in root.iter("title")] == [
        "densities",
        "half",
        "not gated",
        "all",
        "little",
    ]
    assert "strong" in next(one for one in root.iter("text") if one.text == "100").attrib["class"]


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_heat_map_keeps_its_colours_within_bounds(share: float) -> None:
    drawing = heat_map(["row"], ["column"], [[Cell(share, "far")]], "t")
    assert float(re.findall(r'fill-opacity="([^"]+)"', drawing)[0]) in (0.0, 1.0)
