"""Walks that keep to the paths between the roots and chosen nodes and leaves: `backward(inputs=)`, `autograd.grad`.

They know nothing of derivatives of derivatives, which `again` adds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.engine import Node, Variable, Walk


class PathWalk(Walk):
    """A walk that keeps to the paths to the nodes and leaves `wanted`, and finds their gradients.

    What lies beyond can still be walked. As in torch, a wanted node that the walk goes on from gives its gradient
    before its hooks, one where it ends, and a leaf, after them.
    """

    def __init__(self, retain_graph: bool, wanted: set[Node | Variable], roots: list[Node | Variable]):
        super().__init__(retain_graph)
        self.wanted = wanted
        self.path = _leading_to(wanted, roots)
        self.found: dict[Node | Variable, Any] = {}

    def visit(self, node: Node, grad: Any) -> None:
        """As for any walk; the gradient before hooks is remembered."""
        if node.edges is None and node in self.wanted:
            node.edges = node.reads = ()  # the walk ends here
        self.complete = grad
        super().visit(node, grad)

    def send(self, node: Node, edges: Any, grad: Any) -> None:
        """As for any walk, but the gradient of what is not on the paths is not computed."""
        edges = [edge if edge is not None and edge[0] in self.path else None for edge in edges]
        goes_on = any(edges)
        if node in self.wanted:
            self.found[node] = self.complete if goes_on else grad
            self.shared.add(id(self.found[node]))
        if goes_on:
            super().send(node, edges if node.joint is not None else [edge for edge in edges if edge is not None], grad)


def _leading_to(wanted: set[Node | Variable], roots: list[Node | Variable]) -> set[Node | Variable]:
    """What is wanted, and every node between the roots and it."""
    path = set(wanted)
    for node in reachable(roots):  # inputs before outputs
        # One that was used up may have led there: the walk will say so
        if node.edges is None or any(x in path for x in node.inputs()):
            path.add(node)
    return path


def reachable(roots: Iterable[Node | Variable], end: Node | Variable | None = None) -> list[Node]:
    """The nodes that the roots were computed from, themselves included, the oldest first; nothing beyond `end`."""
    todo = [root for root in roots if isinstance(root, Node)]
    seen = set(todo)
    while todo:
        for x in todo.pop().inputs():
            if isinstance(x, Node) and x is not end and x not in seen:
                seen.add(x)
                todo.append(x)
    return sorted(seen, key=lambda node: node.number)
