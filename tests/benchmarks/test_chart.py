"""The chart of a run."""

from xml.etree import ElementTree as ET

import pytest

from benchmarks.chart import svg
from benchmarks.frame import Row
from benchmarks.report import document

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*rows: Row, smoke: bool = False) -> ET.Element:
    return ET.fromstring(svg(document({"concurrent": rows}, smoke=smoke)))


def cycles(peer: str = "", rate: float | None = None) -> Row:
    return Row("cycles", 2_000, "/s", against=peer, limit=rate)


def test_bars_are_as_long_as_the_rates_and_the_quickest_comes_first() -> None:
    picture = drawn(cycles(), cycles("slow", 500), cycles("quick", 4_000))

    rects = picture.findall(f"{SVG}rect")
    widths = [float(rect.attrib["width"]) for rect in rects]
    assert [round(width / widths[0], 3) for width in widths] == [1, 0.5, 0.125]
    assert [rect.attrib["class"] for rect in rects] == ["bar", "ours", "bar"]
    texts = [text.text for text in picture.findall(f"{SVG}text")]
    assert texts[1:] == ["quick", "4,000", "fsm-core", "2,000", "slow", "500"]


def test_a_peer_that_was_not_measured_has_no_bar() -> None:
    assert len(drawn(cycles(), cycles("absent")).findall(f"{SVG}rect")) == 1


def test_a_name_is_text_and_never_markup() -> None:
    texts = [text.text for text in drawn(cycles(), cycles("<script> & co", 1)).findall(f"{SVG}text")]

    assert "<script> & co" in texts


def test_a_smoke_run_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="needs a full run of one of concurrent, bulk, drain"):
        drawn(cycles(), smoke=True)
