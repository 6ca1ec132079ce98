"""Drawings as SVG: inside a page, coloured by its style, or as a file of their own."""

from __future__ import annotations

from html import escape

from semsearch.evaluation.html.shapes import DARK, LIGHT, Drawing, Label, Line, Mark, Role, Shape

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def inline_svg(drawing: Drawing) -> str:
    """An ``<svg>`` element; each shape has its role as class and draws in the class's ``color``."""
    return _element(drawing, f'class="plot" role="img" aria-label="{escape(drawing.title)}"')


def svg_file(drawing: Drawing) -> str:
    """A file that stands alone: colours of its own, for light and for dark, and a background."""
    style = (
        f"text{{font-family:{_FONT}}}{_colours(LIGHT)}"
        f"@media (prefers-color-scheme:dark){{{_colours(DARK)}}}"
    )
    background = '<rect class="paper" width="100%" height="100%" fill="currentColor"/>'
    size = f'width="{drawing.width}" height="{drawing.height}"'
    name = 'xmlns="http://www.w3.org/2000/svg"'
    head = f"<title>{escape(drawing.title)}</title><style>{style}</style>{background}"
    return _element(drawing, f"{name} {size}", head) + "\n"


def _colours(palette: dict[Role, str]) -> str:
    return "".join(f".{role}{{color:{colour}}}" for role, colour in palette.items())


def _element(drawing: Drawing, attributes: str, head: str = "") -> str:
    body = "\n".join(map(_shape, drawing.shapes))
    box = f'viewBox="0 0 {drawing.width} {drawing.height}"'
    return f"<svg {attributes} {box}>{head}\n{body}\n</svg>"


def _shape(shape: Shape) -> str:
    match shape:
        case Line():
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
            dashes = ' stroke-dasharray="4 4"' if shape.dashed else ""
            return (
                f'<polyline class="{shape.role}" points="{points}" fill="none"'
                f' stroke="currentColor" stroke-width="{_n(shape.width)}"{dashes}/>'
            )
        case Mark():
            return _mark(shape)
        case Label():
            bold = ' font-weight="600"' if shape.bold else ""
            return (
                f'<text class="{shape.role}" x="{_n(shape.x)}" y="{_n(shape.y)}"'
                f' text-anchor="{shape.anchor}" font-size="{_n(shape.size)}"'
                f' fill="currentColor"{bold}>{escape(shape.text)}</text>'
            )


def _mark(mark: Mark) -> str:
    title = f"<title>{escape(mark.title)}</title>" if mark.title else ""
    x, y, r = mark.x, mark.y, mark.radius
    opacity = f' fill-opacity="{_n(mark.opacity)}"' if mark.opacity < 1 else ""
    drawn = f'class="{mark.role}" fill="currentColor"{opacity} stroke="currentColor"'
    if mark.marker == "ring":
        # The inside hides the lines behind it, so it has a colour too.
        inside = (
            f'<circle class="paper" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" fill="currentColor"/>'
        )
        drawn = f'class="{mark.role}" fill="none" stroke="currentColor" stroke-width="1.6"'
        return (
            f'<g>{title}{inside}<circle {drawn} cx="{_n(x)}" cy="{_n(y)}" r="{_n(r - 0.3)}"/></g>'
        )
    if mark.marker == "dot":
        return f'<circle {drawn} cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}">{title}</circle>'
    points = " ".join(f"{_n(px)},{_n(py)}" for px, py in corners(mark))
    return f'<polygon {drawn} points="{points}">{title}</polygon>'


def corners(mark: Mark) -> list[tuple[float, float]]:
    """The four corners of a square or diamond, of about the area of the dot."""
    x, y, r = mark.x, mark.y, mark.radius
    if mark.marker == "square":
        s = 0.85 * r
        return [(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)]
    s = 1.2 * r
    return [(x, y - s), (x + s, y), (x, y + s), (x - s, y)]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
