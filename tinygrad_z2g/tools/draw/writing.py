"""Boxes and lines as text: SVG, which browsers and notebooks show, and DOT, which other programs lay out anew.

It knows nothing of tensors: a box has lines of text and a kind, which gives its colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .layout import Box, Line

LETTER = 6.9  # width of a letter in pixels
COLOURS = {  # of each kind of box: inside, border
    "operation": ("#ffffff", "#7d8899"),
    "result": ("#fff3cf", "#c98a00"),
    "parameter": ("#e4f4e7", "#3d9a53"),
    "leaf": ("#e5eefc", "#3f78c9"),
    "input": ("#f1f1f1", "#8b8b8b"),
    "folded": ("#e9e4f6", "#7660b5"),
    "frame": ("#7660b5", "#a99fcb"),
}
TITLE = "#f2f0f9"  # behind a title that a line crosses
STYLE = (
    ".zg text{font:11px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#26303d}.zg .t{font-weight:bold}"
    ".zg .s{fill:#6b7685}.zg .g{fill:#b03a1c}.zg .f{fill:#5b4a92}.zg path{fill:none;stroke:#8591a3;stroke-width:1.3}"
)


class Card(Box):
    """A box with its texts: title and shape in one line, then pairs of a CSS class and a text.

    copies: how many it stands for.
    """

    def __init__(self, kind: str, title: str, shape: str, texts: list[tuple[str, str]], tip: str, copies: int = 1):
        self.kind, self.title, self.shape, self.texts, self.tip, self.copies = kind, title, shape, texts, tip, copies
        longest = max([len(title) + 2 + len(shape), *(len(text) for _, text in texts)])
        super().__init__(LETTER * longest + 16, 9 + 14 * (1 + len(texts)))


class Frame(Box):
    """An opened module."""

    kind = "frame"

    def __init__(self, title: str, parts: Sequence[Box]):
        self.title = title
        super().__init__(LETTER * len(title) + 24, parts=parts)


def svg(frame: Frame, lines: list[Line], captions: list[str]) -> str:
    """The placed boxes of a frame, without the frame itself, and the lines, with captions below."""
    width, height = max([frame.width, *(LETTER * len(text) + 24 for text in captions)]), frame.height
    bottom = height + 4 + 14 * len(captions)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="zg" width="{width:.0f}" height="{bottom:.0f}" '
        f'viewBox="0 0 {width:.0f} {bottom:.0f}"><style>{STYLE}</style>'
        '<defs><marker id="zg-tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0,0L8,4L0,8z" style="fill:#8591a3;stroke:none"/></marker></defs>'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
    ]
    boxes = list(_inside(frame))
    frames, cards = [b for b in boxes if isinstance(b, Frame)], [b for b in boxes if isinstance(b, Card)]
    out += [_rect(box, box.x, box.y, 8) for box in frames]
    for line in lines:
        dashed = ' stroke-dasharray="4 3"' if _is_input(line.source) else ""
        out.append(f'<path d="{curve(line)}"{dashed}' + (' marker-end="url(#zg-tip)"/>' if line.ends else "/>"))
    for box in frames:
        x, width = 9.0, LETTER * len(box.title)
        for inlet in sorted(box.inlets.values()):  # beside the lines that come in, where there is room
            x = inlet + 7 if x - 5 < inlet < x + width + 5 and inlet + 7 + width < box.width else x
        if any(x - 2 < inlet < x + 0.97 * width for inlet in box.inlets.values()):  # no room: the line passes below
            size = f'width="{width + 6:.1f}" height="15" rx="3"'
            out.append(f'<rect x="{box.x + x - 3:.1f}" y="{box.y + 4:.1f}" {size} fill="{TITLE}"/>')
        out.append(f'<text class="t f" x="{box.x + x:.1f}" y="{box.y + 15:.1f}">{_escape(box.title)}</text>')
    for card in cards:
        out.append(f"<g><title>{_escape(card.tip)}</title>")
        out += [_rect(card, card.x + d, card.y + d, 5) for d in ((6, 3, 0) if card.copies > 1 else (0,))]
        where = f'x="{card.x + card.width - 8:.1f}" y="{card.y + 15:.1f}" text-anchor="end"'
        out.append(f'<text class="s" {where}>{card.shape}</text>')
        for i, (style, text) in enumerate([("t", card.title), *card.texts]):
            where = f'x="{card.x + 8:.1f}" y="{card.y + 15 + 14 * i:.1f}"'
            out.append(f'<text class="{style}" {where}>{_escape(text)}</text>')
        out.append("</g>")
    for i, text in enumerate(captions):
        out.append(f'<text class="s" x="12" y="{height + 6 + 14 * i:.0f}">{_escape(text)}</text>')
    return "\n".join([*out, "</svg>"])


def curve(line: Line) -> str:
    """A line as the `d` of an SVG path."""
    (x, y), *rest = line.points
    path = f"M{x:.1f},{y:.1f}"
    for x1, y1 in rest:
        if (x1, y1) != (x, y):
            middle = (y + y1) / 2
            bend = f"C{x:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
            path += f"V{y1:.1f}" if abs(x1 - x) < 0.05 else bend
        x, y = x1, y1
    return path


def dot(frame: Frame, edges: Sequence[tuple[Box, Box]]) -> str:
    """The boxes of a frame and the edges in the DOT language of Graphviz."""
    number = {box: f"n{i}" for i, box in enumerate(_inside(frame))}

    def write(box: Box, indent: str) -> Iterator[str]:
        if isinstance(box, Frame):
            yield f"{indent}subgraph cluster_{number[box]} {{"
            yield f"{indent}  label={_quote(box.title)}"
            for part in box.parts:
                yield from write(part, indent + "  ")
            yield indent + "}"
        elif isinstance(box, Card):
            label = "\n".join([f"{box.title} {box.shape}", *(text for _, text in box.texts)])
            fill, border = COLOURS[box.kind]
            yield f'{indent}{number[box]} [label={_quote(label)} fillcolor="{fill}" color="{border}"]'

    out = ["digraph {", "  compound=true"]
    out.append('  node [shape=box style="rounded,filled" fontname=monospace fontsize=10]')
    for part in frame.parts:
        out += write(part, "  ")
    for a, b in edges:
        inner, cut = b, ""
        while inner.parts:  # DOT's edges join nodes; lhead cuts them off at the frame
            inner, cut = inner.parts[-1], f" lhead=cluster_{number[b]}"
        style = f" [style=dashed{cut}]" if _is_input(a) else ""
        out.append(f"  {number[a]} -> {number[inner]}{style}")
    return "\n".join([*out, "}"]) + "\n"


def _inside(frame: Box) -> Iterator[Box]:
    """All boxes in a frame, each frame before its parts."""
    for part in frame.parts:
        yield part
        yield from _inside(part)


def _is_input(box: Box) -> bool:
    return isinstance(box, Card) and box.kind == "input"


def _rect(box: Card | Frame, x: float, y: float, radius: int) -> str:
    fill, border = COLOURS[box.kind]
    style = {"input": ' stroke-dasharray="4 3"', "frame": ' fill-opacity="0.07"'}.get(box.kind, "")
    size = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{fill}" stroke="{border}"{style}/>'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
