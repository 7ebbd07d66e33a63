"""A drawing as inline SVG. Built as an element tree, so that no text can become markup; colours are CSS classes, so
that the page's light and dark themes and print apply to it."""

from __future__ import annotations

from xml.etree import ElementTree

from markupsafe import Markup

SVG, MARGIN = "http://www.w3.org/2000/svg", 12


def standalone(markup: Markup, style: str, title: str) -> str:
    """The first drawing of `markup` as the text of an SVG file with its own style, title and background, and a margin
    for what the page lets stick out."""
    drawing = ElementTree.fromstring(str(markup).partition("</svg>")[0] + "</svg>")
    width, height = (float(drawing.get(side, "0")) for side in ("width", "height"))
    drawing.set("viewBox", f"{-MARGIN} {-MARGIN} {_number(width + 4 * MARGIN)} {_number(height + 2 * MARGIN)}")
    drawing.set("width", _number(width + 4 * MARGIN))
    drawing.set("height", _number(height + 2 * MARGIN))
    drawing.set("xmlns", SVG)
    drawing.attrib.pop("class", None)
    name = ElementTree.Element("title")
    name.text = title
    rules = ElementTree.Element("style")
    rules.text = style
    corner = {"x": str(-MARGIN), "y": str(-MARGIN)}
    sheet = ElementTree.Element("rect", {**corner, "width": "100%", "height": "100%", "class": "sheet"})
    drawing[0:0] = [name, rules, sheet]
    return ElementTree.tostring(drawing, encoding="unicode") + "\n"


class Drawing:
    """An SVG of `width` x `height` CSS pixels; `alt` is what a screen reader says of it."""

    def __init__(self, width: float, height: float, *, alt: str, css: str) -> None:
        self.width, self.height = width, height
        box = f"0 0 {_number(width)} {_number(height)}"
        self._root = ElementTree.Element("svg", {"viewBox": box, "role": "img", "aria-label": alt, "class": css})
        self._root.set("width", _number(width))
        self._root.set("height", _number(height))

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self._add("line", css, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, width: float, height: float, css: str, *, round: float = 0) -> None:
        self._add("rect", css, x=x, y=y, width=max(width, 0), height=max(height, 0), rx=round)

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        self._add("circle", css, cx=x, cy=y, r=radius)

    def diamond(self, x: float, y: float, radius: float, css: str) -> None:
        points = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
        self._polygon(points, css)

    def path(self, points: list[tuple[float, float]], css: str) -> None:
        """An open line through the points."""
        steps = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        ElementTree.SubElement(self._root, "polyline", {"points": steps, "class": css})

    def area(self, points: list[tuple[float, float]], css: str) -> None:
        self._polygon(points, css)

    def text(self, x: float, y: float, text: str, css: str, *, anchor: str = "start") -> None:
        element = self._add("text", css, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = text

    def markup(self) -> Markup:
        # safe: ElementTree escapes every text and attribute
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def _polygon(self, points: list[tuple[float, float]], css: str) -> None:
        steps = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        ElementTree.SubElement(self._root, "polygon", {"points": steps, "class": css})

    def _add(self, tag: str, css: str, **numbers: float) -> ElementTree.Element:
        attributes = {name: _number(value) for name, value in numbers.items()}
        return ElementTree.SubElement(self._root, tag, {**attributes, "class": css})


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
