"""Predicting well is compressing well: a text is written down with the predictions of a model, and read back.

A letter expected with probability p tells -log2 p bits of news, and arithmetic coding (Rissanen 1976) writes a text in
as many. Begin with all numbers of an interval; cut it into parts as wide as the letters are likely; go on with the part
of the letter that came. In the end any number in what is left tells the text: a reader who makes the same predictions,
to the last bit, cuts in the same way and sees in which part the number lies. So the loss that all steps before made
smaller is the length of a file, of any file: letters are bytes. But the reader needs the model too, which on a short
text costs more than it saves: both sums are told. And xz appears twice, the second time allowed to read the poems.

    python examples/19_compression.py

takes about 55 seconds on 2 CPU cores. The last lines look like this:

    claim: each of the three codes gives back 10452 letters bit by bit
    claim: a code is 0.2 % longer than the news; 2837 bytes of a GPT tell what 4049 do
    result: gzip=3.542 bz2=3.099 xz=3.502 xz_after_poems=2.526 5-gram=2.152 LSTM=2.370 GPT=2.171
"""

from __future__ import annotations

import bisect
import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import common
import numpy as np
from common import letters, pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models import GPT, GPTConfig

T = 48  # letters a model looks back
LINES = 16  # that a file is cut into: the model predicts one letter of each at a time
HEAD = 4  # bytes that tell the length of the file
SMALL = 1 << 40  # an interval below this is widened
TOTAL = 1 << 24  # what 256 probabilities make as integers, at most


def predictions(data: bytes | bytearray, predict: Callable) -> Iterator[tuple[int, np.ndarray, list[int]]]:
    """i, P(letter i), and where the parts of the letters end. When it goes on, letter i is known. Both sides run it."""
    length = -(-len(data) // LINES)  # of a line, rounded up
    for t in common.progress(length):
        places = range(t - 1, LINES * length, length)  # letter t of each line
        before = [bytes(data[i - min(t - 1, T) : i]).rjust(min(t, T), b"\n") for i in places]
        for i, p in zip(places, predict(before), strict=True):  # T letters for each line -> (LINES, 256)
            if i < len(data):
                yield i, p, [0, *np.cumsum((p * (TOTAL - 256)).astype(np.int64) + 1).tolist()]  # no part is empty


def encode(data: bytes, predict: Callable) -> tuple[bytes, float]:
    """The code, and the news in bits: the model's own cross-entropy, times the letters."""
    low = 0  # where the interval begins. It holds all bits so far: Python's integers have no limit
    width = SMALL << 8
    shifts = 0
    news = 0.0
    for i, p, ends in predictions(data, predict):
        letter = data[i]
        unit = width // TOTAL
        low += unit * ends[letter]
        width = unit * (ends[letter + 1] - ends[letter])
        while width < SMALL:
            low <<= 8
            width <<= 8
            shifts += 1
        news -= np.log2(p[letter])
    number = (low + SMALL - 1) // SMALL  # the shortest one in the interval
    return len(data).to_bytes(HEAD, "big") + number.to_bytes(shifts + 1, "big"), news


def decode(code: bytes, predict: Callable) -> bytes:
    """The letters again: `value` is how far the number of the code lies above `low`."""
    found = bytearray(int.from_bytes(code[:HEAD], "big"))
    value = int.from_bytes(code[HEAD : HEAD + 6].ljust(6, b"\0"), "big")
    rest = iter(code[HEAD + 6 :])
    width = SMALL << 8
    for i, _, ends in predictions(found, predict):
        unit = width // TOTAL
        letter = bisect.bisect_right(ends, value // unit) - 1  # the part in which the number lies
        found[i] = letter
        value -= unit * ends[letter]
        width = unit * (ends[letter + 1] - ends[letter])
        while width < SMALL:
            value = value << 8 | next(rest, 0)
            width <<= 8
    return bytes(found)


class LSTM(nn.Sequential):
    """Step 14's memory. (B, T) -> (B, T, 256), state"""

    def forward(self, ids: z2g.Tensor) -> tuple:
        letter, lstm, out = self
        h, state = lstm(letter(ids))
        return out(h), state


@z2g.no_grad()
def by_net(model: nn.Module, device: str, before: list[bytes]) -> np.ndarray:
    scores = model(z2g.tensor([list(line) for line in before], device=device))[0][:, -1]  # (LINES, T) -> (LINES, 256)
    return nn.functional.softmax(scores.double(), dim=-1).cpu().numpy()


def by_counts(model: text.NGram, before: list[bytes]) -> np.ndarray:
    return np.array([model.probabilities("".join(map(chr, range(256))), line.decode("latin-1")) for line in before])


def train(model: nn.Module, ids: z2g.Tensor, steps: int, device: str) -> None:
    optimizer = optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.99))
    schedule = optim.lr_scheduler.WarmupCosineLR(optimizer, steps // 20, max(1, steps))
    bar = common.progress(steps)
    for step in bar:
        inputs, targets = (part.to(device) for part in text.random_batch(ids, 16, T))
        loss = nn.functional.cross_entropy(model(inputs)[0].flatten(0, 1), targets.flatten())  # (B T, 256), (B T,)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 4) == 0:
            bar.write(f"{type(model).__name__:4s} step {step:5d}  loss {loss.item():.4f}")


def main() -> None:
    parser = common.arguments("Arithmetic coding with the predictions of models.", 1100)
    parser.add_argument("--file", type=Path, help="compress this file instead of the held-out poems")
    args = common.parse(parser, steps=10)
    poems, unseen = (part.encode() for part in text.split_poems(letters.CATS.read_text(encoding="utf-8")))
    try:
        data = args.file.read_bytes() if args.file else unseen[:500] if args.quick else unseen
    except OSError as error:
        common.fail(f"--file {args.file}: {error.strerror}; name a file that can be read")

    z2g.manual_seed(args.seed)
    lstm = LSTM(nn.Embedding(256, 32), nn.LSTM(32, 112, batch_first=True), nn.Linear(112, 256))
    gpt = GPT(GPTConfig(256, T, 2, 4, 96))
    predict = {"5-gram": partial(by_counts, text.NGram(5, poems.decode("latin-1"), 256))}
    own = {"5-gram": len(lzma.compress(poems))}  # what a reader needs besides the code, in bytes
    for name, net in (("LSTM", lstm), ("GPT", gpt)):
        train(net.to(args.device), z2g.tensor(list(poems)), args.steps, args.device)
        predict[name] = partial(by_net, net, args.device)
        own[name] = 4 * letters.weights_in(net)

    size = {name: len(tool.compress(data)) for name, tool in (("gzip", gzip), ("bz2", bz2), ("xz", lzma))}
    best = min(size.values())
    size["xz after poems"] = len(lzma.compress(poems + data)) - len(lzma.compress(poems))
    news = {}
    exact = True
    for name, guess in predict.items():
        code, news[name] = encode(data, guess)
        (args.out / f"19_compression.{name}").write_bytes(code)
        size[name] = len(code)
        exact = exact and decode(code, guess) == data
    bits = {name: 8 * value / max(1, len(data)) for name, value in size.items()}
    for name, n in size.items():
        print(f"{name:14s} {n:8d} bytes, {bits[name]:6.3f} bits per letter; {n + own.get(name, 0)} with its model")
    pictures.compression(args, bits, len(data))
    common.claim(exact, f"each of the three codes gives back {len(data)} letters bit by bit")
    over = max(8 * size[name] / news[name] for name in news) - 1 if data else 0
    if args.steps >= 1100 and not args.file:
        told = f"a code is {100 * over:.1f} % longer than the news; {size['GPT']} bytes of a GPT tell what {best} do"
        common.claim(over < 0.01 and size["GPT"] < best, told)
    common.result(**{name.replace(" ", "_"): f"{value:.3f}" for name, value in bits.items()})


if __name__ == "__main__":
    main()
