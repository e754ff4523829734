"""`draw`: the right numbers in the right boxes, modules that fold, no overlaps, nothing left behind."""

import contextlib
import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.core.engine import Node
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.tools.draw import writing
from tinygrad_z2g.tools.draw.layout import Box, place
from tinygrad_z2g.tools.draw.writing import Card, Frame
from tinygrad_z2g.tools.trace import observers

SVG = "{http://www.w3.org/2000/svg}"


def cards(picture):
    """The texts of each card, by its title; a list per title, as several cards may share one."""
    found = {}
    for group in ElementTree.fromstring(picture.svg()).iter(f"{SVG}g"):
        shape, title, *lines = [text.text or "" for text in group.iter(f"{SVG}text")]
        found.setdefault(title, []).append([shape, *lines])
    return found


def frames(picture):
    return [text.text for text in ElementTree.fromstring(picture.svg()) if text.get("class") == "t f"]


def captions(picture):
    """The lines below the picture."""
    return [text.text for text in ElementTree.fromstring(picture.svg()) if text.get("class") == "s"]


def caption(picture):
    return captions(picture)[0]


def arrows(picture):
    """Pairs of titles, from the DOT text."""
    text = picture.dot()
    names = dict(re.findall(r'^ *(n\d+) \[label="(.*?) \(', text, re.M))
    return sorted((names[a], names[b]) for a, b in re.findall(r"^ *(n\d+) -> (n\d+)", text, re.M))


def size(loss):
    """The numbers of operations and of leaves behind a tensor, counted independently of `draw`."""
    found, todo = set(), [loss.node]
    while todo:
        thing = todo.pop()
        if thing not in found:
            found.add(thing)
            todo += [edge[0] for edge in thing.edges if edge] if isinstance(thing, Node) else []
    nodes = sum(isinstance(thing, Node) for thing in found)
    return nodes, len(found) - nodes


def gpt(layers, width=16):
    model = GPT(GPTConfig(vocab_size=11, context=8, layers=layers, heads=2, width=width))
    return model, z2g.randint(0, 11, (2, 8)), z2g.randint(0, 11, (2, 8))


# --- The right numbers -------------------------------------------------------------------------------------------


def test_a_diamond_with_a_shared_leaf_by_hand(device):
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    a = x * 3
    b = x.exp()
    c = a * b
    loss = (c + x).sum()
    picture = z2g.draw(loss)
    e = np.exp([1.0, 2.0])
    show = lambda v: "[" + ", ".join(f"{n:.4g}" for n in v) + "]"  # noqa: E731
    assert cards(picture) == {
        "x": [["(2,)", "value [1, 2]", f"grad {show(3 * e * np.array([2.0, 3.0]) + 1)}"]],
        "a = mul": [["(2,)", "value [3, 6]", f"grad {show(e)}"]],
        "b = exp": [["(2,)", f"value {show(e)}", "grad [3, 6]"]],
        "c = mul": [["(2,)", f"value {show([3 * e[0], 6 * e[1]])}", "grad [1, 1]"]],
        "add": [["(2,)", "grad [1, 1]"]],  # nobody holds its value
        "loss = sum": [["()", f"value {float(loss.item()):.4g}", "grad 1"]],
    }
    assert arrows(picture) == sorted([
        ("x", "a = mul"), ("x", "b = exp"), ("x", "add"), ("a = mul", "c = mul"), ("b = exp", "c = mul"),
        ("c = mul", "add"), ("add", "loss = sum"),
    ])  # fmt: skip
    assert caption(picture) == "5 operations, 1 leaf"


def test_a_two_layer_net_shows_modules_values_and_norms(device):
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x, y = z2g.randn(4, 2), z2g.randn(4, 1)
    with z2g.draw.tracing(model):
        loss = F.mse_loss(model(x), y)
    picture = z2g.draw(loss)
    shown = cards(picture)
    hidden = model[0](x).tanh()
    weight = model[0].weight
    F.mse_loss(model(x), y).backward()
    norm = lambda t: f"{np.linalg.norm(np.array(t.tolist())):.4g}"  # noqa: E731
    assert frames(picture) == ["model · Sequential", "0 · Linear", "2 · Linear"]
    assert ["(8, 2)", f"|value| {norm(weight)}", f"|grad| {norm(weight.grad)}"] in shown["weight"]
    assert shown["1 · Tanh"][0][:2] == ["(4, 8)", f"|value| {norm(hidden)}"]
    assert shown["loss = mse_loss"] == [["()", f"value {loss.item():.4g}", "grad 1"]]
    assert shown["x"] == [["(4, 2)", f"|value| {norm(x)}"]]  # not in the graph, but given to the model
    assert len(shown["weight"]) == len(shown["bias"]) == len(shown["linear"]) == 2 and len(shown) == 6
    # the arrow of x ends at the frame of the module that it was given to
    assert re.search(r"n\d+ -> n\d+ \[style=dashed lhead=cluster_n2\]", picture.dot())


def test_a_callable_is_traced_and_its_scalar_drawn():
    model, ids, targets = gpt(1)
    picture = z2g.draw(model, ids, targets)
    assert len(cards(picture)["cross_entropy"]) == 1
    w = z2g.tensor(2.0, requires_grad=True)
    assert cards(z2g.draw(lambda: (w + 1) * w))["add"] == [["()", "value 3", "grad 2"]]
    assert cards(z2g.draw(w)) == {"w": [["()", "value 2", "grad 1"]]}


def test_a_module_called_twice_has_two_frames_and_one_set_of_parameters():
    layer = nn.Linear(3, 3)
    picture = z2g.draw(lambda: (layer(layer(z2g.ones(1, 3))) * 2).sum())
    shown = cards(picture)
    assert len(shown["layer · Linear"]) == 2  # the parameters belong to both calls, so each has one operation left
    assert len(shown["weight"]) == 1 and shown["weight"][0][0] == "(3, 3)"
    assert len(shown["mul"]) == 1 and len(arrows(picture)) == 1 + 4 + 3


def test_a_variable_that_names_a_part_of_a_model_does_not_double_it():
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    first = model[0]  # noqa: F841
    assert frames(z2g.draw(lambda: model(z2g.ones(1, 1)))) == ["model · Sequential", "0 · Linear", "1 · Linear"]


def test_numbers_that_are_not_finite_are_named():
    x = z2g.zeros(10, requires_grad=True)
    assert cards(z2g.draw(lambda: x.log().sum()))["log"][0][1] == "value 10 of 10 not finite"


# --- Folding -----------------------------------------------------------------------------------------------------


def test_three_hundred_nodes_fold_into_a_page():
    model, ids, targets = gpt(8)
    picture = z2g.draw(model, ids, targets)
    _, loss = model(ids, targets)
    operations, leaves = size(loss)
    assert operations + leaves > 200 and caption(picture) == f"{operations} operations, {leaves} leaves"
    shown = cards(picture)
    assert sum(map(len, shown.values())) < 15 and frames(picture) == ["model · GPT"]
    (block,) = shown["blocks.0 … blocks.7 · TransformerBlock"]
    parameters = sum(p.numel() for p in model.blocks[0].parameters())
    each = (operations - size(gpt(7)[0](ids, targets)[1])[0]), parameters
    assert block[:2] == ["(2, 8, 16)", "{} operations, {:,} parameters each".format(*each)]
    loss.backward()
    total = np.sqrt(sum(np.sum(p.grad.array.astype(float) ** 2) for p in model.blocks.parameters()))
    assert block[-1] == f"|grad| of parameters {total:.4g}"


class Cell(nn.Module):
    """One step of a recurrent net."""

    def __init__(self):
        super().__init__()
        self.i, self.h = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x, h):
        return (self.i(x) + self.h(h)).tanh()


@pytest.mark.parametrize("traced", [False, True])
def test_a_net_unrolled_over_time_is_drawn_the_first_and_the_last_time(traced):
    cell = Cell()
    with z2g.draw.tracing(cell) if traced else contextlib.nullcontext():
        h = z2g.zeros(2, 4)
        for _ in range(40):
            h = cell(z2g.ones(2, 3), h) * 2
        loss = h.mean()
    picture = z2g.draw(loss)
    shown = cards(picture)
    assert sum(map(len, shown.values())) <= 30
    ((title, ((shape, names, *numbers),)),) = ((k, v) for k, v in shown.items() if " × the same " in k)
    nodes, leaves = size(loss)
    times, each = map(int, re.fullmatch(r"(\d+) × the same (\d+) operations", title).groups())
    assert shape == "(2, 4)" and names.count(",") == each - 1 and "mul" in names and times in (37, 38)
    assert [line.split()[0] for line in numbers] == (["|value|", "|grad|"] if traced else ["|grad|"])
    assert captions(picture)[0] == f"{nodes} operations, {leaves} leaves"
    assert "what repeats is drawn the first and the last time: depth=9 draws all" in captions(picture)
    whole = z2g.draw(loss, depth=9)
    assert not any("×" in title for title in cards(whole)) and "what repeats" not in " ".join(captions(whole))
    assert sum(map(len, cards(whole).values())) >= 120


def test_a_program_under_trace_shows_its_lines():
    w = z2g.tensor([1.0, 2.0], requires_grad=True)
    with z2g.trace():
        loss = (w * w).sum()
    picture = z2g.draw(loss)
    hint = "lines noted by trace(), point at a card; draw.tracing(model) adds modules and values"
    assert captions(picture)[-1] == hint
    tips = [tip.text for tip in ElementTree.fromstring(picture.svg()).iter(f"{SVG}title")]
    line = test_a_program_under_trace_shows_its_lines.__code__.co_firstlineno + 3
    assert tips == ["leaf w", *(f"{name}  test_draw.py:{line}  loss = (w * w).sum()" for name in ("mul", "sum loss"))]


def test_depth_and_open_say_what_is_opened():
    model, ids, targets = gpt(3)
    everything = z2g.draw(model, ids, targets, depth=9)
    drawn = {title: len(found) for title, found in cards(everything).items()}
    assert sum(drawn.values()) == sum(size(model(ids, targets)[1])) + 3  # operations, leaves, inputs
    assert drawn["1 · GELU"] == 3
    assert frames(everything).count("attention · CausalSelfAttention") == 3
    closed = z2g.draw(model, ids, targets, depth=0)
    assert set(cards(closed)) == {"model · GPT", "ids", "targets"} and frames(closed) == []
    one = z2g.draw(model, ids, targets, depth=1, open=["blocks.1"])
    assert frames(one) == ["model · GPT", "blocks.1 · TransformerBlock"]
    assert {"blocks.0 · TransformerBlock", "attention · CausalSelfAttention", "blocks.2 · TransformerBlock"} <= set(
        cards(one)
    )
    inner = z2g.draw(model, ids, targets, depth=0, open=["blocks.0.mlp"])
    assert frames(inner) == ["model · GPT", "blocks.0 · TransformerBlock", "mlp · Sequential"]
    with pytest.raises(ValueError, match=r"open names \['block.1'\]; the modules called are .*'blocks.1'"):
        z2g.draw(model, ids, targets, open=["block.1"])


def test_only_equal_neighbours_are_drawn_as_one():
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    picture = z2g.draw(model, z2g.ones(1, 2), depth=1)
    assert set(cards(picture)) == {"input", "0 · Linear", "1 … 2 · Linear", "3 · Linear"}


# --- Nothing left behind -----------------------------------------------------------------------------------------


def test_looking_changes_nothing(device):
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    x, calls = z2g.randn(8, 2), []
    model[0].weight.register_hook(calls.append)
    z2g.manual_seed(1)
    with z2g.draw.tracing(model):
        loss = model(x).sum()
    state = z2g.random.default_generator.get_state()
    z2g.draw(lambda: model(x) * z2g.rand(1))
    z2g.draw(loss).svg()
    assert z2g.random.default_generator.get_state() == state
    assert calls == [] and all(p.grad is None for p in model.parameters())
    assert not observers and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    loss.backward()
    assert len(calls) == 1
    drawn, model[0].weight.grad = model[0].weight.grad, None
    z2g.manual_seed(1)
    model(x).sum().backward()
    assert z2g.equal(model[0].weight.grad, drawn)


def test_tracing_ends_after_an_error_and_survives_one_inside():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("no")

    class Net(nn.Module):
        def __init__(self):
            self.bad, self.good = Fails(), nn.Linear(2, 2)

        def forward(self, x):
            with pytest.raises(KeyError):
                self.bad(x)
            return self.good(x)

    net = Net()
    with pytest.raises(KeyError), z2g.draw.tracing(net.bad):
        net.bad(z2g.ones(1))
    assert not observers and not net.bad._forward_hooks
    with z2g.draw.tracing(net):
        loss = (net(z2g.ones(1, 2)) * 2).sum()
    shown = cards(z2g.draw(loss, depth=0))
    assert {"mul", "loss = sum"} <= set(shown)  # what came after the model is outside it


def test_notes_die_with_the_graph():
    from tinygrad_z2g.tools.draw.tracing import notes

    model, before = nn.Linear(2, 2), len(notes)
    with z2g.draw.tracing(model):
        loss = model(z2g.ones(1, 2)).sum()
    assert len(notes) == before + 2
    del loss
    assert len(notes) == before


# --- What cannot be drawn ----------------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"used up at 'sum' by backward.*retain_graph=True"):
        z2g.draw(loss)
    with pytest.raises(TypeError, match="expected a Tensor, or a callable and its arguments, got int"):
        z2g.draw(3)
    with pytest.raises(RuntimeError, match="no graph to draw"):
        z2g.draw(x.detach() * 2)
    with pytest.raises(TypeError, match="returned str"):
        z2g.draw(lambda: "text")
    with pytest.raises(TypeError, match="expected Modules, got int"):
        z2g.draw.tracing(3)
    for depth in ("x", 1.5, True):
        with pytest.raises(TypeError, match=f"depth must be an int or None, got {type(depth).__name__} {depth!r}"):
            z2g.draw(x * 2, depth=depth)
    with pytest.raises(ValueError, match="depth must be >= 0, the number of levels of modules to open, got -1"):
        z2g.draw(x * 2, depth=-1)
    for names, got in (("blocks.0", "str 'blocks.0'"), (3, "int 3"), ([0], r"list \[0\]")):
        with pytest.raises(TypeError, match=rf"open must be a list of names, as \['blocks.0'\], got {got}"):
            z2g.draw(x * 2, open=names)
    with pytest.raises(ValueError, match=r"ends in .svg or .dot, got 'a.png'"):
        z2g.draw(x).save("a.png")


def test_without_gradients_the_picture_says_why():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    assert caption(z2g.draw(x * 2)) == ("1 operation, 1 leaf; no gradients: the result has shape (2,), not one number")
    loss = (x * x).sum()
    with z2g.no_grad():
        x += 1
    assert "no gradients: backward: a tensor that the gradient of 'mul'" in caption(z2g.draw(loss))


def test_the_picture_says_how_to_read_it_and_how_to_get_a_better_one():
    norm, hint = "|value|, |grad|: the norm √(Σ x²)", "not traced: draw.tracing(model) adds modules and values"
    short, long = z2g.tensor([1.0, 2.0], requires_grad=True), z2g.randn(9, requires_grad=True)
    assert captions(z2g.draw((short * 2).sum())) == ["2 operations, 1 leaf", hint]
    assert captions(z2g.draw((long * 2).sum())) == ["2 operations, 1 leaf", norm, hint]
    assert captions(z2g.draw(lambda: (long * 2).sum())) == ["2 operations, 1 leaf", norm]
    with z2g.draw.tracing():
        loss = (short * 2).sum()
    assert captions(z2g.draw(loss)) == ["2 operations, 1 leaf"]
    assert captions(z2g.draw(short[0].detach().requires_grad_())) == ["0 operations, 1 leaf"]  # nothing to trace
    root = ElementTree.fromstring(z2g.draw((long * 2).sum()).svg())
    assert all(float(text.get("y")) <= float(root.get("height")) - 3 for text in root.iter(f"{SVG}text"))
    assert len({text.get("y") for text in root.findall(f"{SVG}text")}) == 3  # one below the other


def test_a_line_passes_under_a_title_that_it_cannot_avoid():
    """Through a narrow frame whose title leaves no room beside the line, and a wide one."""
    for width, crossed in ((0, True), (400, False)):
        above, inside = Card("operation", "a", "()", [], ""), Card("operation", "b", "()", [], "")
        frame = Frame("a title", [inside])
        frame.width = max(frame.width, width)
        whole = Frame("", [above, frame])
        lines = place(whole, [(above, inside)])
        drawn = list(ElementTree.fromstring(writing.svg(whole, lines, [])))
        at = next(i for i, part in enumerate(drawn) if part.text == "a title")
        under = drawn[at - 1]
        assert (under.get("fill") == writing.TITLE) == crossed
        inlet = frame.x + frame.inlets[above]
        start = float(drawn[at].get("x"))
        assert (start - 5 < inlet < start + writing.LETTER * len("a title") + 5) == crossed
        if crossed:
            assert float(under.get("x")) < start and not any(part.tag == f"{SVG}path" for part in drawn[at:])


def test_files_and_notebooks(tmp_path):
    x = z2g.tensor(1.0, requires_grad=True)
    picture = z2g.draw(x * 2)
    picture.save(tmp_path / "a.svg")
    picture.save(str(tmp_path / "a.dot"))
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == picture.svg() == picture._repr_svg_()
    assert (tmp_path / "a.dot").read_text(encoding="utf-8") == picture.dot()
    assert repr(picture) == '<draw: 1 operation, 1 leaf; .save("graph.svg"), .svg(), .dot()>'


def test_names_are_escaped():
    model = nn.ModuleDict({'a<b&"c': nn.Linear(1, 1)})
    layer = model['a<b&"c']
    model.forward = layer
    picture = z2g.draw(model, z2g.ones(1, 1), depth=1)
    assert any('a<b&"c' in title for title in [*cards(picture), *frames(picture)])
    assert r"a<b&\"c" in picture.dot()


# --- The layout --------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """Cards in an order that edges follow, grouped at random into frames of neighbours, frames into frames."""
    cards = [Box(draw(st.integers(10, 200)), draw(st.integers(10, 60))) for _ in range(draw(st.integers(1, 25)))]
    sources = [draw(st.sets(st.integers(0, max(0, j - 1)), max_size=3)) for j in range(len(cards))]
    edges = [(cards[i], cards[j]) for j in range(1, len(cards)) for i in sources[j]]
    boxes = list(cards)
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(boxes) - 1))
        end = draw(st.integers(start + 1, len(boxes)))
        boxes[start:end] = [Box(draw(st.integers(0, 300)), parts=boxes[start:end])]
    return Box(0, parts=boxes), cards, edges


def inside(frame):
    for part in frame.parts:
        yield frame, part
        yield from inside(part)


def apart(a, b):
    """Whether there are 13 pixels between two boxes, beside or below each other."""
    across = max(a.x, b.x) - min(a.x + a.width, b.x + b.width)
    return across >= 13 or max(a.y, b.y) - min(a.y + a.height, b.y + b.height) >= 13


def bezier(points):
    """Points along a line, its curves running vertically at their ends, as they are drawn."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        for t in np.linspace(0, 1, 9):
            yield x0 + (x1 - x0) * (3 * t**2 - 2 * t**3), y0 + (y1 - y0) * (1.5 * t - 1.5 * t**2 + t**3)


@given(graphs())
def test_boxes_never_overlap_and_no_line_crosses_a_card(graph):
    root, cards, edges = graph
    lines = place(root, edges)
    for frame, part in inside(root):
        assert frame.x <= part.x and part.x + part.width <= frame.x + frame.width + 1e-6
        assert frame.y <= part.y and part.y + part.height <= frame.y + frame.height + 1e-6
        assert all(apart(part, other) for other in frame.parts if other is not part)
    arrivals = {(line.source, line.points[-1]) for line in lines if line.ends}
    assert len(arrivals) == len(set(edges))
    for tail, head in edges:
        assert tail.y + tail.height < head.y
        assert any(s is tail and abs(y - head.y) < 1e-6 and head.x <= x <= head.x + head.width
                   for s, (x, y) in arrivals)  # fmt: skip
    ends = {(line.source, tuple(np.round(line.points[-1], 3))) for line in lines}
    for line in lines:
        assert [y for _, y in line.points] == sorted(y for _, y in line.points)
        begin = (line.source, tuple(np.round(line.points[0], 3)))
        assert begin in ends or abs(line.points[0][1] - line.source.y - line.source.height) < 1e-6  # joined
        for x, y in bezier(line.points):
            assert not any(
                c.x + 0.01 < x < c.x + c.width - 0.01 and c.y + 0.01 < y < c.y + c.height - 0.01 for c in cards
            )


def test_the_main_line_is_straight():
    """A chain in which each box has two side boxes, and a line that skips: it keeps one x, its first box aside."""
    chain = [Box(50, 20) for _ in range(6)]
    sides = [Box(80, 20) for _ in range(10)]
    edges = list(itertools.pairwise(chain))
    edges += [(side, chain[1 + i // 2]) for i, side in enumerate(sides)] + [(chain[0], chain[3])]
    place(Box(0, parts=[*chain, *sides]), edges)
    assert max(box.x for box in chain[1:]) - min(box.x for box in chain[1:]) < 0.5


def test_the_main_line_is_straight_through_frames():
    """Each frame holds a box of the chain and a wide one at its side, which pushes the frame's middle away."""
    chain, sides = [Box(50, 20) for _ in range(4)], [Box(width, 20) for width in (200, 60, 300)]
    frames = [Box(0, parts=[side, box]) for side, box in zip(sides, chain[1:], strict=True)]
    lines = place(Box(0, parts=[chain[0], *frames]), [*itertools.pairwise(chain), *zip(sides, chain[1:], strict=True)])
    assert max(box.x for box in chain[1:]) - min(box.x for box in chain[1:]) < 0.5
    assert all(abs(a - b) < 0.5 for line in lines if line.source in chain[1:] for a, b in itertools.pairwise(
        x for x, _ in line.points))  # fmt: skip


def test_a_long_chain_is_no_problem():
    y = z2g.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        y = y * 1.0
    assert caption(z2g.draw(y)) == "3,000 operations, 1 leaf"


# --- Tensors in notebooks ----------------------------------------------------------------------------------------


def table(x):
    root = ElementTree.fromstring(x._repr_html_())
    return root[0].text, [[cell.text for cell in row] for row in root.iter("tr")], list(root.iter("td"))


def test_a_tensor_shows_its_numbers_and_what_it_is(device):
    x = z2g.tensor([[1.0, -2.0], [0.0, float("nan")]], requires_grad=True)
    facts, rows, cells = table(x * 1)
    assert facts == f"Tensor · (2, 2) · float32 · {'cpu' if device == 'cpu' else 'cuda:0'} · grad_fn=<mul>"
    assert rows == [["1", "-2"], ["0", "nan"]]
    colours = [cell.get("style").split(";")[0] for cell in cells]
    assert colours == [f"background:{c}" for c in ("rgb(255,180,180)", "rgb(105,105,255)", "rgb(255,255,255)", "#222")]
    assert table(x)[0].endswith("requires_grad") and table(nn.Parameter(x.detach()))[0].startswith("Parameter")


def test_large_and_odd_tensors_in_a_notebook():
    facts, rows, _ = table(z2g.arange(60.0).view(3, 20))
    assert len(rows) == 3 and rows[1] == ["20", "21", "22", "23", "24", "…", "36", "37", "38", "39"]
    assert facts.endswith("min 0, mean 29.5, max 59")
    facts, rows, _ = table(z2g.arange(120).view(2, 3, 4, 5))
    assert facts.endswith("shown: [0, 0, :, :]") and len(rows) == 4 and rows[0][0] == "0"
    assert table(z2g.tensor(True))[1] == [["True"]] and table(z2g.tensor([3, 4]))[1] == [["3", "4"]]
    assert z2g.zeros(0, 3)._repr_html_().count("<td") == 0
