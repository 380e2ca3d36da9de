import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from cytodino.errors import InputError
from cytodino_bench.charts import Bar, Panel, bar_chart
from cytodino_bench.drawing import LIGHT, SHARPNESS, Word
from cytodino_bench.files import require_places, write_chart, write_text

CHART = bar_chart(
    "Speed <here>",
    "by turns",
    [
        Panel("images/s", [Bar("a & b", 10.0, "10 images/s", "good"), Bar("c", 5.0, "5", "bad")]),
        Panel("ms", [Bar("d", 0.0, "nothing")]),
    ],
)


def rectangles(svg: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(svg)
    return [dict(one.attrib) for one in root.iter() if one.tag.endswith("rect")]


def test_bars_are_as_long_as_their_values() -> None:
    _, longest, half, nothing = rectangles(CHART.svg())
    assert float(longest["width"]) == pytest.approx(2 * float(half["width"]), abs=0.2)
    assert float(nothing["width"]) == 1  # to be seen at all
    assert longest["style"] == f"fill:{LIGHT['good']}"
    assert half["style"] == f"fill:{LIGHT['bad']}"


def test_words_are_escaped_and_all_there() -> None:
    svg = CHART.svg()
    for word in ("Speed &lt;here&gt;", "by turns", "a &amp; b", "10 images/s", "nothing"):
        assert word in svg
    ElementTree.fromstring(svg)


def test_everything_lies_on_the_sheet() -> None:
    for shape in CHART.shapes:
        for name in ("y", "y1", "y2"):
            assert 0 <= getattr(shape, name, 0) <= CHART.height


def test_what_stands_behind_the_longest_bar_lies_on_the_sheet() -> None:
    said = "800.0 images/s, fails parity"
    chart = bar_chart("speed", "here", [Panel("fastest", [Bar("one", 800.0, said, "bad")])])
    (word,) = (one for one in chart.shapes if isinstance(one, Word) and one.said == said)
    widest = 7.0  # of a character of 12 px, on the average of a wide face
    assert word.x + widest * len(said) <= chart.width


def test_in_a_page_colours_are_the_style_sheets() -> None:
    inline = CHART.inline()
    assert "var(--good)" in inline
    assert LIGHT["good"] not in inline


def test_the_png_shows_the_same_bars() -> None:
    image = Image.open(io.BytesIO(CHART.png()))
    assert image.size == (CHART.width * SHARPNESS, CHART.height * SHARPNESS)
    colours = {colour for _, colour in image.getcolors(1 << 20)}
    for role in ("paper", "good", "bad"):
        assert tuple(bytes.fromhex(LIGHT[role][1:])) in colours


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_chart(tmp_path / "a.svg", CHART)
    write_chart(tmp_path / "a.PNG", CHART)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "taken").mkdir()
    for place in (tmp_path / "taken", tmp_path / "absent" / "a.txt"):
        with pytest.raises(InputError, match="cannot be written"):
            write_text(place, "words")
    with pytest.raises(InputError, match="png or"):
        write_chart(tmp_path / "a.pdf", CHART)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.svg", "taken"]


def test_a_place_that_nothing_can_be_written_to_is_refused_beforehand(tmp_path: Path) -> None:
    require_places(None, tmp_path / "x.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="its folder is not there; name a file in a folder"):
        require_places(tmp_path / "x.json", tmp_path / "nope" / "x.svg")


def test_a_name_that_is_too_long_is_an_error_with_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{'a' * 250}: cannot be written"):
        write_text(tmp_path / ("a" * 250), "x")
