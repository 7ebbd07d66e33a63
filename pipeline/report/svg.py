"""Drawings as inline SVG. They are built as element trees, so that no text can become markup. Colours are CSS classes,
so that the page's light and dark themes and its print style apply."""

from __future__ import annotations

from xml.etree import ElementTree

from markupsafe import Markup

from marginalia.schemas.text_checks import displayable

SVG, MARGIN = "http://www.w3.org/2000/svg", 12


def standalone(markup: Markup, style: str, title: str) -> str:
    """The first drawing of `markup` as an SVG file with its own style, title and background.

    A margin makes room for text that overflows the drawing on the page."""
    drawing = ElementTree.fromstring(str(markup).partition("</svg>")[0] + "</svg>")
    width, height = (float(drawing.get(dimension, "0")) for dimension in ("width", "height"))
    drawing.set("viewBox", f"{-MARGIN} {-MARGIN} {_number(width + 4 * MARGIN)} {_number(height + 2 * MARGIN)}")
    drawing.set("width", _number(width + 4 * MARGIN))
    drawing.set("height", _number(height + 2 * MARGIN))
    drawing.set("xmlns", SVG)
    drawing.attrib.pop("class", None)
    title_element = ElementTree.Element("title")
    title_element.text = displayable(title)
    style_element = ElementTree.Element("style")
    style_element.text = style
    position = {"x": str(-MARGIN), "y": str(-MARGIN)}
    background = ElementTree.Element("rect", {**position, "width": "100%", "height": "100%", "class": "sheet"})
    drawing[0:0] = [title_element, style_element, background]
    return ElementTree.tostring(drawing, encoding="unicode") + "\n"


class Drawing:
    """An SVG of `width` x `height` CSS pixels. `alt` is the text for screen readers; `css` names CSS classes."""

    def __init__(self, width: float, height: float, *, alt: str, css: str) -> None:
        self.width, self.height = width, height
        box = f"0 0 {_number(width)} {_number(height)}"
        self._root = ElementTree.Element(
            "svg", {"viewBox": box, "role": "img", "aria-label": displayable(alt), "class": css}
        )
        self._root.set("width", _number(width))
        self._root.set("height", _number(height))

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line between two points."""
        self._add("line", css, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, width: float, height: float, css: str, *, round: float = 0) -> None:
        """A rectangle with corners of radius `round`; negative sizes become 0."""
        self._add("rect", css, x=x, y=y, width=max(width, 0), height=max(height, 0), rx=round)

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        """A circle around (x, y)."""
        self._add("circle", css, cx=x, cy=y, r=radius)

    def diamond(self, x: float, y: float, radius: float, css: str) -> None:
        """A square that stands on a corner, around (x, y)."""
        points = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
        self._polygon(points, css)

    def path(self, points: list[tuple[float, float]], css: str) -> None:
        """An open polyline through the points."""
        steps = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        ElementTree.SubElement(self._root, "polyline", {"points": steps, "class": css})

    def area(self, points: list[tuple[float, float]], css: str) -> None:
        """A filled polygon with these corners."""
        self._polygon(points, css)

    def text(self, x: float, y: float, text: str, css: str, *, anchor: str = "start") -> None:
        """Text whose baseline starts at (x, y), or ends or is centred there, after SVG's `text-anchor`."""
        element = self._add("text", css, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = displayable(text)

    def markup(self) -> Markup:
        """The drawing as an `<svg>` element."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))  # safe: ElementTree escapes every text

    def _polygon(self, points: list[tuple[float, float]], css: str) -> None:
        steps = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        ElementTree.SubElement(self._root, "polygon", {"points": steps, "class": css})

    def _add(self, tag: str, css: str, **numbers: float) -> ElementTree.Element:
        attributes = {name: _number(value) for name, value in numbers.items()}
        return ElementTree.SubElement(self._root, tag, {**attributes, "class": css})


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
