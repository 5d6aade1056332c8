# Copyright (c) 2026, the kubenode.servicenet developers
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draws lines over two logarithmic axes as SVG."""

from __future__ import annotations

import math
from typing import NamedTuple
from xml.sax.saxutils import escape

LICENCE = """<!--
Copyright (c) 2026, the kubenode.servicenet developers
GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->"""
WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 80, 350, 50, 60
# Colours that people who see few colours can tell apart.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")


class Series(NamedTuple):
    """One line: ``points`` are (x, y), all greater than 0; ``dash`` as SVG has it, "" for an unbroken line."""

    name: str
    colour: int
    dash: str
    points: list[tuple[float, float]]


class _Axis:
    """Values to places on the picture; it reaches from a power of ten to another."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def lines(title: str, x_name: str, y_name: str, series: list[Series]) -> str:
    """The picture's text."""
    x = _Axis([point[0] for one in series for point in one.points], LEFT, WIDTH - RIGHT)
    y = _Axis([point[1] for one in series for point in one.points], HEIGHT - BOTTOM, TOP)
    parts = [
        LICENCE,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, TOP - 22, title, 'font-size="17"'),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_name, 'text-anchor="middle"'),
        _text(
            0, 0, y_name, f'text-anchor="middle" transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
        ),
    ]
    for tick in x.ticks():
        place = x.place(tick)
        parts.append(f'<path d="M{place} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(_text(place, HEIGHT - BOTTOM + 20, f"{tick:,.0f}", 'text-anchor="middle"'))
    for tick in y.ticks():
        place = y.place(tick)
        parts.append(f'<path d="M{LEFT} {place}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, place + 4, f"{tick:g}", 'text-anchor="end"'))
    for index, one in enumerate(series):
        parts += _line(one, x, y, TOP + 10 + 22 * index)
    return "\n".join([*parts, "</svg>", ""])


def _line(one: Series, x: _Axis, y: _Axis, legend: float) -> list[str]:
    """A line with its points, and its entry in the legend."""
    colour = COLOURS[one.colour % len(COLOURS)]
    stroke = f'stroke="{colour}" stroke-width="2" fill="none"' + (f' stroke-dasharray="{one.dash}"' if one.dash else "")
    places = [(x.place(a), y.place(b)) for a, b in one.points]
    start = WIDTH - RIGHT + 20
    return [
        f'<path d="M{" L".join(f"{a} {b}" for a, b in places)}" {stroke}/>',
        *(f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in places),
        f'<path d="M{start} {legend}h30" {stroke}/>',
        _text(start + 38, legend + 4, one.name, ""),
    ]


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
