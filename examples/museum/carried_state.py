"""The state of a recurrent net is carried on from piece to piece, with its history.

Text is read in pieces, and the state after one piece starts the next. With the state comes its graph: each backward
walks through all pieces ever read. The second one stops with an error: the graph is used up. With retain_graph=True
the error is another: the optimizer has changed weights in place that the old graph needs. Who silences that too, here
by new weight tensors in each step, gets the same losses to the last digit, and steps that grow until memory ends.
"""

from plaque import course, plaque

import tinygrad_z2g as z2g

C = 8
signal = z2g.sin(0.3 * z2g.arange(241))[:, None]  # (241, 1): tell the next value


def read(weights: list[z2g.Tensor], state: z2g.Tensor, piece: z2g.Tensor, answer: z2g.Tensor) -> tuple:
    """The state (1, C) after a piece, and the mean squared error of the predictions on the way."""
    (W, U, V), outputs = weights, []
    for x in piece.split(1):
        state = (state @ W + x @ U).tanh()  # (1, C) @ (C, C) + (1, 1) @ (1, C)
        outputs.append(state @ V)  # (1, C) @ (C, 1)
    return state, ((z2g.cat(outputs) - answer) ** 2).mean()


def size(loss: z2g.Tensor) -> int:
    """How many operations a backward pass visits."""
    nodes = [loss.node]
    for node in nodes:  # which grows meanwhile
        nodes += {x for x in node.inputs() if hasattr(x, "edges")} - set(nodes)
    return len(nodes)


def train(detach: bool, retain: bool, in_place: bool = False) -> tuple[list[float], list[int]]:
    """The loss of each of 60 pieces, and the size of its graph."""
    z2g.manual_seed(1)
    weights, state = [z2g.randn(C, C) / C**0.5, z2g.randn(1, C), z2g.randn(C, 1) / C**0.5], z2g.zeros(1, C)
    losses, sizes = [], []
    for piece, answer in zip(signal[:-1].split(4), signal[1:].split(4), strict=True):
        weights = [W.detach().requires_grad_() for W in weights]
        state, loss = read(weights, state.detach() if detach else state, piece, answer)  # not to detach: the mistake
        sizes.append(size(loss))
        loss.backward(retain_graph=retain)
        weights = [W.detach().sub_(0.1 * W.grad) if in_place else W - 0.1 * W.grad for W in weights]
        losses.append(loss.item())
    return losses, sizes


(bad, bad_sizes), (good, good_sizes) = train(detach=False, retain=True), train(detach=True, retain=False)
check = {f"operations walked in step {i + 1}": (bad_sizes[i], good_sizes[i]) for i in (0, 9, 59)}
plaque(course(bad, good), check, fix="state.detach() between two pieces")
errors = []  # what one sees first, from an optimizer that steps in place
for retain in (False, True):
    try:
        train(detach=False, retain=retain, in_place=True)
    except RuntimeError as error:
        errors.append(f"        {str(error)[:113]} ...")
print(*errors, sep="\n")
assert bad == good and bad[-1] < bad[0] / 5 and bad_sizes[-1] > 30 * bad_sizes[0] and len(set(good_sizes)) == 1
assert "already used up" in errors[0] and "modified by an inplace operation" in errors[1]
