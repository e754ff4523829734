"""Memory: an LSTM reads letter by letter and carries a state along.

A window ends at 16 letters. A recurrent net has none: it reads one letter, updates its state, reads the next. The state
is all it knows of the past. An LSTM (Hochreiter & Schmidhuber 1997) keeps a cell c that gates protect,

    c' = f c + i g,   h' = o tanh(c')          forget f, take in i, show o: each between 0 and 1, chosen anew each time

so that the derivative of c' by c is f, and with f near 1 an error travels far back. Not through the whole text, though:
we backpropagate through 32 letters and then detach the state. It goes on, its history does not: truncated
backpropagation through time. The reference is step 13's best, letter vectors side by side, with as many weights. To
write, the LSTM is fed its own letters, one at a time, and never forgets to pass its state on. Step 15 looks back at
the letters themselves instead of a memory of them.

    python examples/14_lstm.py

takes about 25 seconds on 2 CPU cores. The last lines look like this:

    claim: held-out loss 1.431 with a memory, 1.708 with a window
    result: lstm=1.4306 window=1.7077
"""

from __future__ import annotations

import common
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text

T = 16  # the window
WIDTH = 32  # numbers per letter
HIDDEN = 128  # of the window net
STATE = 113  # of the LSTM
STREAMS = 32  # places of the text that are read at once
CHUNK = 32  # letters between two updates
LINE = 128  # held-out letters in one go


class Memory(nn.Module):
    """Letters as vectors, an LSTM, scores for the next letter: (B, T), state -> (B, T, vocabulary), state"""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.letter = nn.Embedding(vocabulary, WIDTH)
        self.lstm = nn.LSTM(WIDTH, STATE, batch_first=True)
        self.out = nn.Linear(STATE, vocabulary)

    def forward(self, ids: z2g.Tensor, state: tuple[z2g.Tensor, z2g.Tensor] | None = None) -> tuple:
        h, state = self.lstm(self.letter(ids), state)  # (B, T) -> (B, T, C) -> (B, T, H)
        return self.out(h), state


def window_net(vocabulary: int) -> nn.Sequential:
    """Step 13's vectors side by side: (B, T) -> (B, vocabulary)"""
    # The order in which weights are drawn: the two layers, then the vectors
    first = nn.Linear(T * WIDTH, HIDDEN)
    out = nn.Linear(HIDDEN, vocabulary)
    return nn.Sequential(nn.Embedding(vocabulary, WIDTH), nn.Flatten(), first, nn.ReLU(), out)


def read_on(model: Memory, ids: z2g.Tensor, steps: int, device: str) -> None:
    """Train by reading the text at 32 places at once, from chunk to chunk with the state of the one before."""
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    n = (len(ids) - 1) // STREAMS
    inputs = ids[: n * STREAMS].view(STREAMS, n)
    targets = ids[1 : n * STREAMS + 1].view(STREAMS, n)
    state = None
    at = 0
    bar = common.progress(steps)
    for step in bar:
        if at + CHUNK > n:  # read to the end: start again with an empty memory
            state = None
            at = 0
        scores, state = model(inputs[:, at : at + CHUNK].to(device), state)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), targets[:, at : at + CHUNK].flatten().to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(part.detach() for part in state)  # it goes on; its history does not
        at += CHUNK
        if step % max(1, steps // 4) == 0:
            bar.write(f"lstm   step {step:5d}  loss {loss.item():.4f}")


@z2g.no_grad()
def losses_by_place(model: nn.Module, ids: z2g.Tensor, device: str) -> z2g.Tensor:
    """Held-out loss after T .. 127 letters of the past, over the same letters for both nets. -> (LINE - T,)"""
    n = (len(ids) - 1) // LINE
    inputs, targets = (ids[i : i + n * LINE].view(n, LINE) for i in (0, 1))
    if isinstance(model, Memory):
        scores = model(inputs.to(device))[0][:, T:]  # (n, LINE, V) -> (n, LINE - T, V)
    else:
        scores = z2g.stack([model(inputs[:, i - T : i].to(device)) for i in range(T + 1, LINE + 1)], dim=1)
    losses = nn.functional.cross_entropy(scores.flatten(0, 1), targets[:, T:].flatten().to(device), reduction="none")
    return losses.view(n, LINE - T).mean(dim=0).cpu()


@z2g.no_grad()
def write(model: Memory, tokenizer: text.CharTokenizer, length: int, device: str) -> str:
    """Feed the net its own letters, one at a time; the state alone remembers."""
    letter = tokenizer.encode("\n").view(1, 1).to(device)
    state = None
    written = []
    for _ in range(length):
        scores, state = model(letter, state)  # (1, 1) -> (1, 1, V)
        letter = z2g.multinomial(nn.functional.softmax(scores[:, -1] / 0.8, dim=-1), 1)  # (1, V) -> (1, 1)
        written.append(letter.item())
    return tokenizer.decode(written)


def main() -> None:
    args = common.parse(common.arguments("An LSTM against a window of 16 letters.", 1500), steps=20)
    tokenizer, ids, unseen = letters.poems()

    def measured(name: str, model: nn.Module) -> z2g.Tensor:
        losses = losses_by_place(model, unseen, args.device)
        print(f"{name:6s} {letters.weights_in(model)} weights, held-out loss {losses.mean().item():.3f}")
        return losses

    # The window net learns fastest at 1e-3, and is at its best after some 4,000 steps: then it overfits
    z2g.manual_seed(args.seed)
    net = window_net(len(tokenizer)).to(args.device)
    updates = args.steps * 8 // 3
    letters.learn("window", net, letters.loss_of_last, ids, T, updates, lr=1e-3, device=args.device, lines=4)
    by_place = {"window": measured("window", net)}

    z2g.manual_seed(args.seed)
    memory = Memory(len(tokenizer)).to(args.device)
    read_on(memory, ids, args.steps, args.device)
    by_place["lstm"] = measured("lstm", memory)
    print(write(memory, tokenizer, 300, args.device))

    pictures.lstm(args, {name: losses.numpy() for name, losses in by_place.items()}, T)
    window = by_place["window"].mean().item()
    lstm = by_place["lstm"].mean().item()
    if args.steps >= 1500:
        common.claim(lstm < window - 0.15, f"held-out loss {lstm:.3f} with a memory, {window:.3f} with a window")
    common.result(lstm=f"{lstm:.4f}", window=f"{window:.4f}")


if __name__ == "__main__":
    main()
