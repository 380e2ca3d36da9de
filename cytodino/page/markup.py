"""HTML from functions: whatever is not marked as HTML is escaped, and mypy holds it."""

from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import NewType

from cytodino.parity import Verdict
from cytodino.taxonomy import CLASSES, index_of

__all__ = ["Html", "badge", "code", "fragment", "number", "share", "table", "tag", "text"]

Html = NewType("Html", str)
"""Text that is safe to stand in the page as it is."""

_VOID = {"image", "img", "line", "path", "rect", "use", "circle"}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_SIGNS: dict[Verdict, str] = {
    "passed": "M4.5 8.5 7 11l4.8-6",
    "failed": "M5 5l6 6M11 5l-6 6",
    "unproven": "M6 6.2a2 2 0 1 1 2.8 1.9c-.6.3-.8.6-.8 1.2M8 11.6v.1",
}
"""A tick in a disc, a cross in a square, a question mark in a ring: told apart without colour."""


def text(value: object) -> Html:
    """Escape anything for use between tags."""
    return Html(escape(str(value)))


def fragment(parts: Iterable[Html]) -> Html:
    """Join pieces."""
    return Html("".join(parts))


def tag(name: str, *children: Html, **attributes: object) -> Html:
    """Write an element; `class_` is class, other underscores are hyphens, None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{''.join(children)}</{name}>")


def _plain(value: object) -> str:
    # One decimal of a pixel is enough, and thousands of points stay small.
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Html]],
    *,
    figures: Collection[int] = (),
    class_: str | None = None,
) -> Html:
    """Write a table whose first column names the rows; columns in `figures` stand to the right."""

    def written(name: str, place: int, content: Html) -> Html:
        kind = "figure" if place in figures else None
        return tag(name, content, class_=kind, scope="col" if name == "th" else None)

    head = tag("tr", *(written("th", place, text(name)) for place, name in enumerate(heads)))
    body = [
        tag("tr", *(written("td", place, cell) for place, cell in enumerate(row))) for row in rows
    ]
    whole = tag("table", tag("thead", head), tag("tbody", *body), class_=class_)
    return tag("div", whole, class_="scroll")


def badge(verdict: Verdict, word: str | None = None) -> Html:
    """Write a verdict as a sign and a word, in its colour."""
    ground = (
        tag("rect", x=1, y=1, width=14, height=14, rx=2)
        if verdict == "failed"
        else tag("circle", cx=8, cy=8, r=7)
    )
    sign = tag("path", d=_SIGNS[verdict])
    icon = tag("svg", ground, sign, viewBox="0 0 16 16", aria_hidden="true")
    return tag("span", icon, text(word or verdict), class_=f"badge {verdict}")


def code(name: str) -> Html:
    """Write a class code that tells its name."""
    return tag("abbr", text(name), title=CLASSES[index_of(name)].name)


def number(value: float | None) -> str:
    """Three digits, without e-notation; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        written = f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        written = f"{mantissa.removesuffix('.0')} · 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
        written = written.removeprefix("1 · ")
    return written.replace("-", "−")


def share(value: float | None) -> str:
    """Per cent with two digits; a dash for None. Only the whole is 100 %."""
    if value is None:
        return "–"
    return "100 %" if value == 1 else f"{min(100 * value, 99.99):.2f} %"
