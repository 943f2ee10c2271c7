"""Small charts as SVG inside of a page: one value with its interval, and lines over an axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

DASHES = ("none", "6 3", "2 3", "9 3 2 3")  # lines differ by more than their colour
WIDTH, HEIGHT = 270, 190  # in units of which REM are the page's size of letters
REM = 15
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 22, 38  # room for numbers, names and the axis


@dataclass(frozen=True)
class Axis:
    """One side of a chart.

    Attributes
    ----------
    title : str
        With its unit.
    low, high : float
        Its ends; `high` above `low`.
    """

    title: str
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes
    ----------
    name : str
        Written above the chart beside a piece of the line; none where it is empty.
    points : sequence of tuple of float
        x and y, in order; values outside of an axis are drawn at its end.
    colour : str
        ``"a"`` to ``"d"``: which of the page's four colours.
    has_marks : bool
        Whether each point has a mark.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "a"
    has_marks: bool = False


def draw_bar(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    baseline: float | None = None,
    ends: tuple[float, float] = (0.0, 1.0),
) -> Markup:
    """Draw a value as a bar, its interval as a line over it, and what it must beat as dots.

    The numbers must stand beside it: for a reader of the screen it does not exist.

    Parameters
    ----------
    value, low, high, baseline : float, optional
        In the unit of `ends`; what is None is not drawn.
    ends : tuple of float
        The values at the left and right end.

    Returns
    -------
    markupsafe.Markup
        An ``<svg>``, empty where there is no value.
    """
    if value is None:
        return Markup("")
    zero = _place(0.0, ends, 100)
    at = _place(value, ends, 100)
    shapes = [
        f'<rect class="bar" x="{min(zero, at):.4g}" y="3" width="{abs(at - zero):.4g}" height="6"/>'
    ]
    if low is not None and high is not None:
        left, right = (_place(end, ends, 100) for end in (low, high))
        shapes += [
            f'<path class="interval" d="M{left:.4g} 6H{right:.4g}"/>',
            f'<path class="interval" d="M{left:.4g} 2V10M{right:.4g} 2V10"/>',
        ]
    if baseline is not None:
        place = _place(baseline, ends, 100)
        shapes.append(f'<path class="baseline" d="M{place:.4g} 0V12"/>')
    return Markup(  # numbers alone
        '<svg class="value" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        + "".join(shapes)
        + "</svg>"
    )


def draw_curves(curves: Sequence[Curve], x: Axis, y: Axis, says: str) -> Markup:
    """Draw lines over a pair of axes.

    Parameters
    ----------
    curves : sequence of Curve
        Four at most that bear a name.
    x, y : Axis
    says : str
        What it shows, for who cannot see it.

    Returns
    -------
    markupsafe.Markup
        An ``<svg>`` whose size follows the size of letters.
    """
    parts = [_draw_frame(x, y)]
    start = float(LEFT)
    for number, curve in enumerate(curves):
        dash = DASHES[number % len(DASHES)]
        style = f'class="line {curve.colour}" stroke-dasharray="{dash}"'
        points = [_to_page(point, x, y) for point in curve.points]
        path = " ".join(f"{left:.5g},{top:.5g}" for left, top in points)
        parts.append(f'<polyline {style} points="{path}"/>')
        if curve.has_marks:
            parts += [
                f'<circle class="mark {curve.colour}" cx="{left:.5g}" cy="{top:.5g}" r="3"/>'
                for left, top in points
            ]
        if curve.name:
            parts.append(f'<path {style} d="M{start:.5g} 10h22"/>')
            parts.append(f'<text x="{start + 26:.5g}" y="14">{escape(curve.name)}</text>')
            start += 34 + 6.4 * len(curve.name)
    return Markup(  # every text is escaped
        f'<svg class="chart" role="img" aria-label="{escape(says)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'style="width:{WIDTH / REM:.4g}rem">' + "".join(parts) + "</svg>"
    )


def round_up(value: float) -> float:
    """Return the end of an axis from 0 that holds `value`: 1, 2 or 5 times a power of ten."""
    for power in range(-6, 10):
        for step in (1, 2, 5):
            if value <= step * 10.0**power:
                return float(f"{step * 10.0**power:.6g}")
    return value


def _draw_frame(x: Axis, y: Axis) -> str:
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>']
    for place, value in (
        (left, x.low),
        ((left + right) / 2, (x.low + x.high) / 2),
        (right, x.high),
    ):
        anchor = "end" if place == right else "middle"
        parts.append(
            f'<path class="axis" d="M{place:.5g} {bottom}v4"/>'
            f'<text x="{place:.5g}" y="{bottom + 16}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    for place, value in (
        (bottom, y.low),
        ((top + bottom) / 2, (y.low + y.high) / 2),
        (top, y.high),
    ):
        parts.append(
            f'<path class="axis" d="M{left - 4} {place:.5g}h4"/>'
            f'<text x="{left - 6}" y="{place + 4:.5g}" text-anchor="end">{value:.3g}</text>'
        )
    middle = (top + bottom) / 2
    return "".join(
        [
            *parts,
            f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="end">{escape(x.title)}</text>',
            f'<text transform="translate(11 {middle:.5g}) rotate(-90)" text-anchor="middle">'
            f"{escape(y.title)}</text>",
        ]
    )


def _to_page(point: tuple[float, float], x: Axis, y: Axis) -> tuple[float, float]:
    across = _place(point[0], (x.low, x.high), WIDTH - LEFT - RIGHT)
    up = _place(point[1], (y.low, y.high), HEIGHT - TOP - BOTTOM)
    return LEFT + across, HEIGHT - BOTTOM - up


def _place(value: float, ends: tuple[float, float], length: float) -> float:
    """Return how far along a side of that length a value lies, inside of it."""
    share = (value - ends[0]) / (ends[1] - ends[0])
    return length * min(max(share, 0.0), 1.0)
