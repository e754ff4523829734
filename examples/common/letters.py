"""The poems as numbers, and what steps 12 to 17 do with them again and again: learn, and measure on unseen poems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

from .terminal import progress

CATS = Path(__file__).parent.parent / "data" / "cats.txt"
Loss = Callable[[nn.Module, z2g.Tensor, z2g.Tensor], z2g.Tensor]  # of a model on inputs and targets (B, T)


def poems() -> tuple[text.CharTokenizer, z2g.Tensor, z2g.Tensor]:
    """A tokenizer for all letters of cats.txt, and as ids the poems to learn from and those that are held out."""
    content = CATS.read_text(encoding="utf-8")
    tokenizer = text.CharTokenizer(content)
    training, validation = text.split_poems(content)
    return tokenizer, tokenizer.encode(training), tokenizer.encode(validation)


def loss_of_last(model: nn.Module, inputs: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    """Cross-entropy of a model that says what comes after a window: (B, T) -> (B, V)"""
    return nn.functional.cross_entropy(model(inputs), targets[:, -1])


def loss_of_all(model: nn.Module, inputs: z2g.Tensor, targets: z2g.Tensor) -> z2g.Tensor:
    """Cross-entropy of a model that says at every place what comes next: (B, T) -> (B, T, V)"""
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())  # (B, T, V) -> (B T, V)


def learn(
    name: str, model: nn.Module, loss_of: Loss, ids: z2g.Tensor, context: int, steps: int, lr: float, device: str,
    batch: int = 100, lines: int = 5,
) -> list[float]:  # fmt: skip
    """The loop of step 12: Adam on random windows of `context` letters. Prints some lines, returns all losses."""
    optimizer = optim.Adam(model.parameters(), lr=lr)
    losses = []
    bar = progress(steps)
    for step in bar:
        inputs, targets = text.random_batch(ids, batch, context)  # (B, T), and the same one letter later
        loss = loss_of(model, inputs.to(device), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % max(1, steps // lines) == 0:
            bar.write(f"{name} step {step:5d}  loss {losses[-1]:.4f}")
    return losses


@z2g.no_grad()
def held_out_last(model: nn.Module, ids: z2g.Tensor, context: int, device: str) -> float:
    """The loss of 5,000 letters spread evenly over a text, the same ones at every call, each after its own window."""
    windows = ids.unfold(0, context + 1, max(1, len(ids) // 5000)).to(device)  # (N, T + 1)
    return loss_of_last(model, windows[:, :-1], windows[:, 1:]).item()


@z2g.no_grad()
def held_out_all(model: nn.Module, ids: z2g.Tensor, context: int, device: str) -> float:
    """The loss over a whole text, cut into windows of `context` letters."""
    n = (len(ids) - 1) // context
    inputs = ids[: n * context].view(n, context).to(device)
    targets = ids[1 : n * context + 1].view(n, context).to(device)
    return loss_of_all(model, inputs, targets).item()


class Mixing(nn.Module):
    """Letters and places as vectors, one way of mixing them, and a hidden layer: (B, T) -> (B, T, V).

    The net of steps 15 and 16, where `mix` is the lesson: (B, T, C) -> (B, T, C).
    """

    def __init__(self, vocabulary: int, context: int, width: int, mix: nn.Module):
        super().__init__()
        self.letter = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(context, width)
        self.mix = mix
        self.hidden = nn.Linear(2 * width, 4 * width)
        self.out = nn.Linear(4 * width, vocabulary)

    def forward(self, ids: z2g.Tensor) -> z2g.Tensor:
        x = self.letter(ids) + self.place.weight  # (B, T, C) + (T, C)
        x = z2g.cat([x, self.mix(x)], dim=-1)  # the letter itself beside what it gathered: (B, T, 2C)
        return self.out(self.hidden(x).relu())


def weights_in(model: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in model.parameters())
