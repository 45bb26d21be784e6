"""Charts and graphs drawn on the server: SVG made of attributes alone, as the content policy wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

SLOT, PLOT = 30, 100  # the drawing is stretched to its place, so these are proportions


def _figure(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def nice_ticks(highest: float, wanted: int = 4) -> list[float]:
    """Round values from 0 to at least `highest`: the axis of a chart.

    >>> nice_ticks(17)
    [0, 5, 10, 15, 20]
    """
    if highest <= 0:
        return [0, 1]
    rough = highest / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    if highest >= 1:
        step = max(step, 1)
    return [round(step * n, 10) for n in range(math.ceil(highest / step - 1e-9) + 1)]


def sparkline(values: Sequence[float | None], label: str, *, width: int = 72, height: int = 24) -> SafeString:
    """A small line with its area, without axes; gaps (None) are left out. `label` says it in words."""
    points = [(n, float(v)) for n, v in enumerate(values) if v is not None]
    if len(points) < 2:
        return SafeString()
    lowest, highest = min(v for _, v in points), max(v for _, v in points)
    spread = (highest - lowest) or 1
    last = len(values) - 1
    line = " ".join(
        f"{_figure(n * width / last)},{_figure(height - 5 - (v - lowest) / spread * (height - 9))}"
        for n, v in points
    )
    start, end = _figure(points[0][0] * width / last), _figure(points[-1][0] * width / last)
    return format_html(
        '<svg class="po-spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="M{},{} L{} L{},{}z" fill="currentColor" fill-opacity=".16"/>'
        '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>',
        width, height, label, start, height, line.replace(" ", " L"), end, height, line,
    )  # fmt: skip


def run_bars(bars: Sequence[tuple[str, float, str]], label: str) -> SafeString:
    """Recent runs as a row of bars: (tone, relative height 0..1, what it was), oldest first."""
    drawn = format_html_join(
        "",
        '<rect class="po-c-{}" x="{}" y="{}" width="4" height="{}" rx="1"><title>{}</title></rect>',
        (
            (tone, n * 6, _figure(16 - (h := max(3.0, min(1.0, share) * 16))), _figure(h), text)
            for n, (tone, share, text) in enumerate(bars)
        ),
    )
    return format_html(
        '<span class="po-runbars"><svg width="{}" height="16" role="img" aria-label="{}">{}</svg></span>',
        max(len(bars) * 6 - 2, 1), label, drawn,
    )  # fmt: skip


def bar_chart(labels: Sequence[str], series: Sequence[dict[str, Any]], title: str) -> SafeString:
    """Stacked bars over an axis that starts at 0, as wide and high as their place.

    :param labels: one for each bar, as the reader sees it.
    :param series: dicts of `name`, `values` and `colour` (`c1`..`c8`, `c-ok`, `c-fail`, ...), lowest first.
    :param title: what the chart shows, for those who do not see it.
    """
    stacks = [[float(one["values"][n] or 0) for one in series] for n in range(len(labels))]
    ticks = nice_ticks(max((sum(stack) for stack in stacks), default=0))
    width = SLOT * max(len(labels), 1)
    lines = format_html_join(
        "",
        '<line class="po-axis" x2="{}" y1="{}" y2="{}"/>',
        ((width, at := _figure(PLOT - tick / ticks[-1] * PLOT), at) for tick in ticks),
    )
    bars = []
    for n, (label, stack) in enumerate(zip(labels, stacks, strict=True)):
        y, drawn = float(PLOT), []
        for one, value in zip(series, stack, strict=True):
            if value:
                height = value / ticks[-1] * PLOT
                y -= height
                drawn.append((one["colour"], _figure(SLOT * (n + 0.2)), _figure(y), _figure(height)))
        words = ", ".join(f"{one['name']} {_figure(value)}" for one, value in zip(series, stack, strict=True))
        bars.append((
            0 if n == 0 else -1, f"{label}: {words}", f"{label}: {words}", SLOT * n,
            format_html_join("", '<rect class="po-{}" x="{}" y="{}" width="18" height="{}"/>', drawn),
        ))  # fmt: skip
    # As many labels as have room where a chart is narrowest.
    every = math.ceil(len(labels) * (max(map(len, labels), default=1) * 7 + 14) / 300)
    shown = ((label if n % every == 0 else "",) for n, label in enumerate(labels))
    return format_html(
        '<div class="po-plot"><ol class="po-plot-y" aria-hidden="true">{}</ol>'
        '<svg viewBox="0 0 {} 100" preserveAspectRatio="none" role="group" aria-label="{}" data-roving="">'
        "{}{}</svg>"
        '<ol class="po-plot-x" aria-hidden="true">{}</ol></div>',
        format_html_join("", "<li>{}</li>", ((_figure(tick),) for tick in reversed(ticks))),
        width, title, lines,
        format_html_join(
            "",
            '<g tabindex="{}" role="img" aria-label="{}" data-tip="{}">'
            '<rect class="po-hit" x="{}" width="30" height="100"/>{}</g>',
            bars,
        ),
        format_html_join("", "<li>{}</li>", shown),
    )  # fmt: skip


def curves(count: int, *, outward: bool) -> SafeString:
    """The lines between a column of `count` boxes (40 high, 20 apart) and the box in the middle."""
    height = max(count, 1) * 60 - 20
    middle = height / 2
    paths = []
    for n in range(count):
        y = n * 60 + 20
        start, end = (middle, y) if outward else (y, middle)
        paths.append(
            (f"M0 {_figure(start)}C18 {_figure(start)} 18 {_figure(end)} 35 {_figure(end)}h-1l-5-4m5 4l-5 4",)
        )
    return format_html(
        '<svg viewBox="0 0 36 {0}" height="{0}" preserveAspectRatio="none" aria-hidden="true">{1}</svg>',
        height, format_html_join("", '<path d="{}"/>', paths),
    )  # fmt: skip
