"""Placing the boxes of a graph: in rows, from the inputs down, with few crossings. Knows nothing of tensors.

The method of Sugiyama, Tagawa & Toda (1981), applied to each frame from the innermost out: every box goes one row
below the lowest box that it depends on; a line that passes a row gets a point there; each row is sorted by the mean
position of its neighbours, again and again, downwards and upwards; at last every box moves as near to that mean as
the gaps allow. A frame is one box in the frame around it, so frames never overlap, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Sequence

GAP_X, GAP_Y, PAD, HEADER = 14.0, 22.0, 12.0, 22.0  # pixels: between boxes, between rows, inside a frame, its title
SWEEPS = 12
BOX, POINT, SIDE = 1e8, 1e4, 1.0  # weights: a box keeps its place, a passing line yields, and what nothing precedes too

Point = tuple[float, float]
Wire = tuple["Box | None", "Box | None", "Box"]


class Box:
    """A card, or a frame around `parts`. Give the size of a card and the least width of a frame; `place` does the rest.

    x, y is the upper left corner, in pixels, y downwards. `inlets` and `outlets` say of a frame where the line that
    comes from a card outside crosses its upper edge, and that from a card inside its lower edge (x from the left).
    """

    def __init__(self, width: float, height: float = 0.0, parts: Sequence[Box] = ()):
        self.width, self.height, self.parts = width, height, parts
        self.x = self.y = 0.0
        self.inlets: dict[Box, float] = {}
        self.outlets: dict[Box, float] = {}
        self.lines: list[Line] = []  # in the coordinates of this frame, until `place` is done


class Line:
    """One stretch of the line from the card `source`; its points are to be joined by curves that run vertically there.

    `ends` says whether it arrives there, which wants an arrowhead, or only passes the edge of a frame or a row;
    `heads`, which boxes it leads to in the end.
    """

    def __init__(self, source: Box, points: list[Point], ends: bool, heads: set[Box]):
        self.source, self.points, self.ends, self.heads = source, points, ends, heads


class _Cell:
    """A place in a row: for a box, or for a line that passes (box None). x is its middle."""

    def __init__(self, box: Box | None = None, row: int = 0):
        self.box, self.row = box, row
        self.width, self.height = (box.width, box.height) if box else (0.0, 0.0)
        self.x, self.weight = 0.0, BOX if box else POINT
        self.above: list[tuple[_Cell, float]] = []  # neighbours, and how far right of their own x this one should be
        self.below: list[tuple[_Cell, float]] = []


def place(root: Box, edges: Sequence[tuple[Box, Box]]) -> list[Line]:
    """Set x and y of everything in the frame `root`, and return the lines.

    Edges lead from cards to cards, or to frames, and form no cycle, also if each frame is taken as one box.
    """
    chains: dict[Box, list[Box]] = {root: [root]}  # each box with the frames around it, outermost first
    todo = [root]
    while todo:
        frame = todo.pop()
        for part in frame.parts:
            chains[part] = [*chains[frame], part]
        todo += frame.parts
    # What each frame has to join: (part or None for its edge, part or None, source), in order and each once; and for
    # which boxes in the end
    wires: dict[Box, dict[Wire, set[Box]]] = {box: {} for box in chains}
    for tail, head in edges:
        up, down = chains[tail], chains[head]
        i = next(i for i, (a, b) in enumerate(zip(up, down, strict=False)) if a is not b)
        wires[up[i - 1]].setdefault((up[i], down[i], tail), set()).add(head)
        for frame, part in zip(up[i:], up[i + 1 :], strict=False):
            wires[frame].setdefault((part, None, tail), set()).add(head)
        for frame, part in zip(down[i:], down[i + 1 :], strict=False):
            wires[frame].setdefault((None, part, tail), set()).add(head)
    for box in sorted(chains, key=lambda box: -len(chains[box])):  # innermost first
        if box.parts:
            _arrange(box, wires[box])
    lines = list(root.lines)
    for box in chains:  # frames come before their parts
        for part in box.parts:
            part.x, part.y = part.x + box.x, part.y + box.y
        if box is not root:
            lines += [Line(w.source, [(x + box.x, y + box.y) for x, y in w.points], w.ends, w.heads) for w in box.lines]
    return lines


def _arrange(frame: Box, wires: dict[Wire, set[Box]]) -> None:
    """Place the parts of one frame, and find its size, inlets, outlets and lines."""
    cells = {part: _Cell(part) for part in frame.parts}
    inlets = {source: _Cell() for tail, _, source in wires if tail is None}
    outlets = {source: _Cell() for _, head, source in wires if head is None}
    links = [(cells[t] if t else inlets[s], cells[h] if h else outlets[s], s) for t, h, s in wires]
    _number_rows([*inlets.values(), *cells.values(), *outlets.values()], links)
    bottom = max(cell.row for cell in cells.values()) + 1
    for cell in outlets.values():
        cell.row = bottom

    points: dict[tuple[_Cell, Box, int], _Cell] = {}  # where lines pass a row; those with one source share them
    hops: dict[tuple[_Cell, _Cell, Box], tuple[float, float]] = {}  # lines from row to row, with x of their ends
    leads: dict[tuple[_Cell, _Cell, Box], set[Box]] = {}  # and where they lead
    for (tail, head, source), heads in zip(links, wires.values(), strict=True):
        last = tail
        for row in range(tail.row + 1, head.row):
            point = points.setdefault((tail, source, row), _Cell(row=row))
            point.weight = min(POINT, tail.weight)
            hops[last, point, source] = _offset(last, source, False), 0.0
            leads.setdefault((last, point, source), set()).update(heads)
            last = point
        hops[last, head, source] = _offset(last, source, False), _offset(head, source, True)
        leads.setdefault((last, head, source), set()).update(heads)
    for (tail, head, _), (start, end) in hops.items():
        tail.below.append((head, end - start))
        head.above.append((tail, start - end))

    rows: list[list[_Cell]] = [[] for _ in range(bottom + 1)]
    for cell in [*inlets.values(), *points.values(), *cells.values(), *outlets.values()]:
        rows[cell.row].append(cell)
    _align(rows)
    _measure(frame, rows, hops, leads)
    frame.inlets = {source: cell.x for source, cell in inlets.items()}
    frame.outlets = {source: cell.x for source, cell in outlets.items()}


def _offset(cell: _Cell, source: Box, top: bool) -> float:
    """How far right of its middle the line from `source` meets the cell, at its upper or lower edge."""
    if cell.box is None or not cell.box.parts:
        return 0.0
    return (cell.box.inlets if top else cell.box.outlets).get(source, cell.width / 2) - cell.width / 2


def _number_rows(cells: list[_Cell], links: list[tuple[_Cell, _Cell, Box]]) -> None:
    """Longest path from the top: row 0 is for inlets. What depends on nothing goes just above what depends on it."""
    heads: dict[_Cell, list[_Cell]] = {cell: [] for cell in cells}
    missing = dict.fromkeys(cells, 0)  # how many of its tails have no row yet
    for tail, head, _ in links:
        heads[tail].append(head)
        missing[head] += 1
    free = [cell for cell in cells if not missing[cell]]
    sources = [cell for cell in free if cell.box]
    for cell in sources:
        cell.row = 1
    while free:
        cell = free.pop()
        for head in heads[cell]:
            head.row = max(head.row, cell.row + 1)
            missing[head] -= 1
            if not missing[head]:
                free.append(head)
    for cell in sources:
        if heads[cell]:
            cell.row = max(1, min(head.row for head in heads[cell]) - 1)
            cell.weight = BOX if cell.box and cell.box.parts else SIDE


def _align(rows: list[list[_Cell]]) -> None:
    """Sort the cells in their rows, and choose x for each: under or over the mean of its heaviest neighbours."""
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(2 * SWEEPS):
        ordering, down = sweep < SWEEPS, sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wishes = []
            for cell in row:
                pulls = cell.above if down else cell.below
                heavy = max((other.weight for other, _ in pulls), default=0.0)
                near = [other.x + by for other, by in pulls if other.weight == heavy]
                wishes.append(sum(near) / len(near) if near else cell.x)
            if ordering:
                order = sorted(range(len(row)), key=lambda i: wishes[i])
                row[:], wishes = [row[i] for i in order], [wishes[i] for i in order]
            _spread(row, wishes)


def _spread(row: list[_Cell], wishes: list[float]) -> None:
    """Set x as near to the wishes as order and gaps allow: least squares, by pooling adjacent violators."""
    blocks: list[tuple[float, float, list[tuple[_Cell, float]]]] = []  # weight, weight · x of its first cell, cells
    reach = 0.0
    for i, (cell, wish) in enumerate(zip(row, wishes, strict=True)):
        reach += (row[i - 1].width + cell.width) / 2 + GAP_X if i else 0.0
        weight, total, members = cell.weight, cell.weight * (wish - reach), [(cell, reach)]
        while blocks and blocks[-1][1] / blocks[-1][0] > total / weight:
            other = blocks.pop()
            weight, total, members = weight + other[0], total + other[1], other[2] + members
        blocks.append((weight, total, members))
    for weight, total, members in blocks:
        for cell, shift in members:
            cell.x = total / weight + shift


def _measure(
    frame: Box, rows: list[list[_Cell]], hops: dict[tuple[_Cell, _Cell, Box], tuple[float, float]],
    leads: dict[tuple[_Cell, _Cell, Box], set[Box]],
) -> None:  # fmt: skip
    """Choose y, the size of the frame, and the points of its lines."""
    cells = [cell for row in rows for cell in row]
    left = min(cell.x - cell.width / 2 for cell in cells) - PAD
    right = max(cell.x + cell.width / 2 for cell in cells) + PAD
    left -= max(0.0, frame.width - (right - left)) / 2
    frame.width = max(frame.width, right - left)
    for cell in cells:
        cell.x -= left
    # The farther a line goes sideways, the more room it gets to go down
    gaps = [GAP_Y] * len(rows)
    for (tail, head, _), (start, end) in hops.items():
        gaps[head.row] = max(gaps[head.row], min(64.0, abs(head.x + end - tail.x - start) / 7))
    tops, bottoms, y = [], [], 0.0
    for i, row in enumerate(rows):
        if i == 1:
            y += gaps[1] if rows[0] else PAD / 2
        elif i > 1:
            y += gaps[i] if row else PAD  # an empty row is that of the outlets, the lower edge of the frame
        tops.append(y)
        y += max((cell.height for cell in row), default=0.0) if i else HEADER
        bottoms.append(y)
    frame.height = bottoms[-1]
    edge: dict[_Cell, tuple[float, float]] = {}  # y of its upper and lower edge
    for cell in cells:
        top, bottom = tops[cell.row], bottoms[cell.row]
        if cell.box:
            top = bottom - cell.height if cell.weight == SIDE else top  # a side card stands near what it feeds
            bottom = top + cell.height
            cell.box.x, cell.box.y = cell.x - cell.width / 2, top
        edge[cell] = top, bottom
    for (tail, head, source), (start, end) in hops.items():
        x0, x1 = tail.x + start, head.x + end
        y0 = edge[tail][1] if tail.box else edge[tail][0]
        points = [(x0, y0), (x0, bottoms[tail.row]), (x1, tops[head.row]), (x1, edge[head][0])]
        ends = head.box is not None and source not in head.box.inlets
        frame.lines.append(Line(source, points, ends, leads[tail, head, source]))
