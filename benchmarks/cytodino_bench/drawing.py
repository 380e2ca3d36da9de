"""Pictures of rectangles, lines and words, as SVG and, by Pillow, as PNG: the same shapes in both.

A plotting library would weigh more than the engines that are measured. Colours are roles; in a
page they are the style sheet's variables and follow light and dark, in a file they are the light
ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from cytodino.page.markup import Html, tag, text

__all__ = ["Drawing", "Line", "Rect", "Role", "Word"]

Role = Literal["paper", "ink", "soft", "line", "bar", "good", "bad", "open"]

LIGHT: dict[Role, str] = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#59626e",
    "line": "#dce0e6",
    "bar": "#9fb4c8",
    "good": "#00629b",
    "bad": "#b54600",
    "open": "#6a6a6a",
}
"""As in the parity page's style sheet."""

SHARPNESS = 2
"""Pixels of a PNG for one unit of the drawing."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Rect:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    role: Role


@dataclass(frozen=True)
class Line:
    """A line one unit wide."""

    x1: float
    y1: float
    x2: float
    y2: float
    role: Role


@dataclass(frozen=True)
class Word:
    """A line of text; `y` is its baseline."""

    x: float
    y: float
    said: str
    role: Role = "ink"
    size: int = 12
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass
class Drawing:
    """Shapes on a sheet of paper, later ones above earlier ones."""

    width: int
    height: int
    name: str
    """What it shows, for people who cannot see it."""
    shapes: list[Rect | Line | Word] = field(default_factory=list)

    def svg(self) -> str:
        """Write it as an SVG file of its own."""
        ground = Rect(0, 0, self.width, self.height, "paper")
        parts = [_written(shape, lambda role: LIGHT[role]) for shape in (ground, *self.shapes)]
        return tag(
            "svg",
            *parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            aria_label=self.name,
            font_family=FONT,
        )

    def inline(self) -> Html:
        """Write it for a page that has the parity page's style sheet."""
        parts = [_written(shape, lambda role: f"var(--{role})") for shape in self.shapes]
        box = f"0 0 {self.width} {self.height}"
        return tag("svg", *parts, viewBox=box, role="img", aria_label=self.name, class_="drawing")

    def png(self) -> bytes:
        """Paint it."""
        from PIL import Image, ImageDraw, ImageFont

        size = (self.width * SHARPNESS, self.height * SHARPNESS)
        image = Image.new("RGB", size, LIGHT["paper"])
        pen = ImageDraw.Draw(image)
        anchors = {"start": "ls", "middle": "ms", "end": "rs"}
        for shape in self.shapes:
            colour = LIGHT[shape.role]
            if isinstance(shape, Rect):
                corner = (shape.x + shape.width, shape.y + shape.height)
                box = [SHARPNESS * value for value in (shape.x, shape.y, *corner)]
                pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
            elif isinstance(shape, Line):
                ends = (shape.x1, shape.y1, shape.x2, shape.y2)
                pen.line([SHARPNESS * value for value in ends], fill=colour, width=SHARPNESS)
            else:
                place = (SHARPNESS * shape.x, SHARPNESS * shape.y)
                font = ImageFont.load_default(size=SHARPNESS * shape.size)
                pen.text(place, shape.said, colour, font, anchor=anchors[shape.anchor])
        file = BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()


def _written(shape: Rect | Line | Word, colour: Callable[[Role], str]) -> Html:
    # As a style, not an attribute: only there may a colour be a variable.
    paint = colour(shape.role)
    if isinstance(shape, Rect):
        return tag(
            "rect",
            x=float(shape.x),
            y=float(shape.y),
            width=float(shape.width),
            height=float(shape.height),
            style=f"fill:{paint}",
        )
    if isinstance(shape, Line):
        ends = {"x1": shape.x1, "y1": shape.y1, "x2": shape.x2, "y2": shape.y2}
        return tag("line", **{k: float(v) for k, v in ends.items()}, style=f"stroke:{paint}")
    return tag(
        "text",
        text(shape.said),
        x=float(shape.x),
        y=float(shape.y),
        text_anchor=shape.anchor,
        style=f"fill:{paint};font-size:{shape.size}px",
    )
