"""Bars and curves as SVG, in colours that can be read on white and on black."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

GREY = "#6e7781"
FAINT = "#6e778155"
_WIDTH = 860
_FONT = "font-family='system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif'"


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's figure in a panel; `shown` is what stands behind the bar."""

    name: str
    value: float
    shown: str
    colour: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (callers, milliseconds)."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


def bars(title: str, panels: Mapping[str, Sequence[Bar]]) -> str:
    """Horizontal bars; each panel has a scale of its own."""
    row, label, room = 19, 165, 500
    parts, top = [_text(0, 18, title, size=16, weight=600)], 34
    for name, found in panels.items():
        parts.append(_text(0, top + 16, name, weight=600))
        top += 24
        longest = max(bar.value for bar in found)
        for bar in found:
            width = max(1.5, bar.value / longest * room)
            parts.append(_text(label - 8, top + 13, bar.name, anchor="end"))
            box = f"x='{label}' y='{top + 2}' width='{width:.1f}' height='{row - 5}' rx='2'"
            parts.append(f"<rect {box} fill='{bar.colour}'/>")
            parts.append(_text(label + width + 6, top + 13, bar.shown))
            top += row
        top += 10
    return _picture(top, parts)


def curves(title: str, panels: Mapping[str, Sequence[Curve]], below: str, beside: str) -> str:
    """Panels side by side with logarithmic axes and the same scales, one legend for all."""
    every = [curve for found in panels.values() for curve in found]
    xs, ys = ([point[axis] for curve in every for point in curve.points] for axis in (0, 1))
    across = _Scale(min(xs), max(xs))
    up = _Scale(10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys))))
    parts = [_text(0, 18, title, size=16, weight=600), *_legend(next(iter(panels.values())))]
    gap, left, top, height = 24, 46, 84, 260
    width = (_WIDTH - left - gap * (len(panels) - 1) - 8) / len(panels)
    for number, (name, found) in enumerate(panels.items()):
        x = left + number * (width + gap)
        parts.append(_text(x, top - 10, name, weight=600))
        for tick in up.decades():
            y = top + height * (1 - up.share(tick))
            parts.append(
                f"<line x1='{x:.1f}' x2='{x + width:.1f}' y1='{y:.1f}' y2='{y:.1f}' stroke='{FAINT}'/>"
            )
            if not number:
                parts.append(_text(x - 6, y + 4, f"{tick:g}", anchor="end"))
        parts += (
            _text(x + width * across.share(tick), top + height + 17, f"{tick:g}", anchor="middle")
            for tick in sorted(set(xs))
        )
        parts.append(_text(x + width / 2, top + height + 36, below, anchor="middle"))
        parts += (_line(curve, across, up, x, top, width, height) for curve in found)
    parts.append(_text(0, top - 10, beside))
    return _picture(top + height + 44, parts)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Where on the axis, between 0 and 1."""
        return math.log(value / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.0

    def decades(self) -> list[float]:
        """The powers of ten on it."""
        first, last = (round(math.log10(end)) for end in (self.low, self.high))
        return [10.0**power for power in range(first, last + 1)]


def _line(curve: Curve, across: _Scale, up: _Scale, x: float, top: float, width: float, height: float) -> str:
    points = [(x + width * across.share(a), top + height * (1 - up.share(b))) for a, b in curve.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = "".join(f"<circle cx='{a:.1f}' cy='{b:.1f}' r='2.6' fill='{curve.colour}'/>" for a, b in points)
    dashes = " stroke-dasharray='5 4'" if curve.dashed else ""
    return f"<polyline points='{path}' fill='none' stroke='{curve.colour}' stroke-width='2'{dashes}/>{dots}"


def _legend(found: Sequence[Curve]) -> list[str]:
    parts, x = [], 0.0
    for curve in found:
        dashes = " stroke-dasharray='5 4'" if curve.dashed else ""
        parts.append(
            f"<line x1='{x}' x2='{x + 22}' y1='42' y2='42' stroke='{curve.colour}' stroke-width='3'{dashes}/>"
        )
        parts.append(_text(x + 28, 46, curve.name))
        x += 28 + 7.5 * len(curve.name) + 22
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    style = f"text-anchor='{anchor}' font-size='{size}' font-weight='{weight}' fill='{GREY}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"


def _picture(height: float, parts: Sequence[str]) -> str:
    size = f"viewBox='-4 0 {_WIDTH + 8} {height:.0f}' width='{_WIDTH + 8}' height='{height:.0f}'"
    lines = "\n".join(parts)
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size} {_FONT}>\n{lines}\n</svg>\n"
