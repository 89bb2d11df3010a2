"""Line charts as SVG, several panels side by side, without any library."""

import math
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 300, 260
LEFT, RIGHT, TOP, BOTTOM, GAP = 58, 118, 64, 46, 24
LABEL_HEIGHT = 14
INK, FAINT, PAPER = "#24292f", "#d8dee4", "#ffffff"
# Distinct also for who sees no red or green; the first is ours.
COLORS = ("#d1495b", "#00798c", "#c8881a", "#66618f", "#7a8b69", "#8d99ae")


class Panel:
    def __init__(self, title, subtitle, ticks, x_title, unit):
        self.title, self.subtitle, self.x_title, self.unit = title, subtitle, x_title, unit
        self.ticks = ticks  # the texts; points are given by their number
        self.lines = []  # (name, colour, [(tick, low, middle, high)])
        self.floor = None  # (text, value)

    def line(self, name, color, points):
        if points:
            self.lines.append((name, color, points))


def _steps(low, high):
    """1, 2 and 5 of every power of ten that lie between; fewer where that would be many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    width = math.log10(high / low)
    steps = (1, 2, 5) if width < 1.6 else (1, 3) if width < 2.6 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def _number(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _apart(places, top, bottom):
    """Heights for labels, in the order of `places`, near where they belong and not on each other."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    heights = [0.0] * len(places)
    last = top - LABEL_HEIGHT
    for i in order:
        last = heights[i] = max(places[i], last + LABEL_HEIGHT)
    limit = bottom
    for i in reversed(order):
        limit = heights[i] = min(heights[i], limit)
        limit -= LABEL_HEIGHT
    return heights


def _panel(panel, left):
    values = [value for _, _, points in panel.lines for _, low, _, high in points for value in (low, high) if value > 0]
    if panel.floor:
        values.append(panel.floor[1])
    low, high = min(values) / 1.25, max(values) * 1.25
    top, bottom = TOP, TOP + PANEL_HEIGHT
    inner = PANEL_WIDTH - 24

    def x(tick):
        return left + 12 + inner * tick / max(1, len(panel.ticks) - 1)

    def y(value):
        return bottom - PANEL_HEIGHT * math.log(max(value, low) / low) / math.log(high / low)

    out = [f'<text x="{left}" y="26" font-size="14" font-weight="600">{escape(panel.title)}</text>',
           f'<text x="{left}" y="44" fill="#57606a">{escape(panel.subtitle)}</text>']
    for value in _steps(low, high):
        out.append(f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{FAINT}"/>')
        out.append(f'<text x="{left - 7}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#57606a">{_number(value)} {panel.unit}</text>')
    out.append(f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{bottom}" y2="{bottom}" stroke="{INK}"/>')
    for tick, text in enumerate(panel.ticks):
        out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="{INK}"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
    out.append(f'<text x="{left + PANEL_WIDTH / 2:.1f}" y="{bottom + 37}" text-anchor="middle" fill="#57606a">{escape(panel.x_title)}</text>')
    labels = []  # (text, colour, height of the line's end)
    if panel.floor:
        text, value = panel.floor
        out.append(f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#8c959f" stroke-dasharray="4 4"/>')
        labels.append((text, "#6e7781", y(value)))
    for number, (name, color, points) in reversed(list(enumerate(panel.lines))):  # ours is drawn last, on top
        for tick, least, _, most in points:
            if y(least) - y(most) > 3:
                out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y(least):.1f}" y2="{y(most):.1f}" stroke="{color}" stroke-opacity="0.35" stroke-width="4"/>')
        path = " ".join(f"{x(tick):.1f},{y(middle):.1f}" for tick, _, middle, _ in points)
        width = 3 if number == 0 else 2
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"/>')
        out += [f'<circle cx="{x(tick):.1f}" cy="{y(middle):.1f}" r="{width + 1}" fill="{color}" stroke="{PAPER}"/>' for tick, _, middle, _ in points]
        labels.append((name, color, y(points[-1][2])))
    heights = _apart([height for _, _, height in labels], top + 4, bottom)
    for (text, color, end), height in zip(labels, heights):
        at = left + PANEL_WIDTH
        out.append(f'<polyline points="{at - 6},{end:.1f} {at + 2},{end:.1f} {at + 8},{height:.1f}" fill="none" stroke="{color}" stroke-opacity="0.6"/>')
        weight = ' font-weight="600"' if color == COLORS[0] else ""
        out.append(f'<text x="{at + 11}" y="{height + 4:.1f}" fill="{color}"{weight}>{escape(text)}</text>')
    return out


def draw(panels):
    width = sum(LEFT + PANEL_WIDTH + RIGHT for _ in panels) + GAP
    height = TOP + PANEL_HEIGHT + BOTTOM + 8
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
           f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>']
    left = LEFT + 8
    for panel in panels:
        out += _panel(panel, left)
        left += LEFT + PANEL_WIDTH + RIGHT
    return "\n".join([*out, "</svg>"]) + "\n"
