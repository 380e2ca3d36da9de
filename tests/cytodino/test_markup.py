"""Numbers and text as a page shows them."""

import pytest

from cytodino.page.markup import number, share, tag, text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.05, "0.05"),
        (-0.25, "−0.25"),
        (123.4, "123"),
        (3.21e-6, "3.2 · 10⁻⁶"),
        (1e-4, "10⁻⁴"),
        (-2e-9, "−2 · 10⁻⁹"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, said: str) -> None:
    assert number(value) == said


def test_only_the_whole_is_a_hundred_per_cent() -> None:
    shares = [share(value) for value in (None, 1.0, 0.999999, 0.966666)]
    assert shares == ["–", "100 %", "99.99 %", "96.67 %"]


def test_text_and_attributes_are_escaped() -> None:
    assert tag("a", text("<&>"), href='"', id=None) == '<a href="&quot;">&lt;&amp;&gt;</a>'
