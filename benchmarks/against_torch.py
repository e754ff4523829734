"""`python -m benchmarks.against_torch`: the same random programs here and on torch, and where the two part.

Each program (`programs.py` writes it from the templates in `program_lines.py`) runs line by line on both libraries.
After every line all variables are compared: values, shapes, dtypes, whether contiguous, gradients, names and parameters
of modules, settings and state of optimizers; or which exception was raised. A line after which they differ is dropped
and the program goes on without it. What was found is shrunk to a few lines and printed as a program to paste, once for
each kind; what is different on purpose (`DELIBERATE`) is counted. Exit code 1 if anything else was found.

    python -m benchmarks.against_torch --seed 1 --minutes 10
    python -m benchmarks.against_torch --seed 1 --first 123 --programs 1     # one program again
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import copy
import os
import random
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .program_lines import HELPERS
from .programs import Writer

LENGTH = 18  # lines of a program
TOLERANCE = {"float64": 1e-7, "float32": 2e-4, "float16": 2e-2}  # of the largest number of the array, or of 0.1

# What is different on purpose: a pattern for the line, one for the difference, and the reason (see API.md).
RAW = r"tuple index|has no attribute|cannot reshape array|operands could not|not subscriptable|assignment destination"
DELIBERATE = [
    (r"", r"here NotImplementedError", "left out: API.md lists it"),
    (r"", rf"^here (?!no )\w+, there (?!no )\w+; (?!.*({RAW}))", "neither takes it; the exception's kind fits better"),
    (r"", r"there RuntimeError: .*modified by an inplace operation", "a rule here reads less: the write does no harm"),
    (r"", r"there RuntimeError.*returns multiple views", "pieces of unbind, split and chunk may be written"),
    (r"backward|grad\(", r"grad \w+: .*both raise RuntimeError", "a walk that raises leaves no gradients behind"),
    (r"load_state_dict", r"values: .*both raise RuntimeError", "load_state_dict that raises has loaded nothing"),
    (r"_loss\(", r"expected equal shapes; there no error", "losses refuse what would broadcast; torch warns"),
    (r"Softmax\(|softmax\(", r"missing 1 required positional argument: 'dim'", "softmax needs its dim"),
    (r"autograd.grad", r"^is_contiguous; .*here True", "gradients are whole arrays; torch hands out stretched ones"),
    (r"dropout|Dropout", r"^values", "a seed does not give torch's random numbers"),
    (r"::-|:-\d", r"there ValueError: step must be greater", "x[::-1] is offered here"),
    (r"", r"there TypeError: .*must be bool, not int", "1 is taken for True"),
    (r"", r"there RuntimeError: .*input tensor and the written-to tensor refer to", "a source is copied first"),
    (r"//|floor_divide", r"^requires_grad", "x // y is a constant"),
    (r"", r"already used up .*there no error", "a graph is used up also where torch had kept nothing"),
    (r"", r"here no error; there TypeError: \w+\(\).*(missing 1 required|got \(\), but)", "no sizes mean ()"),
    (r"", r"here no error; there TypeError: (maximum|minimum|logical_\w+)\(\).*must be Tensor", "numbers are taken"),
    (r"", r"here no error; there TypeError: .*must be (bool|of type bool), (not|got:) \w+", "numbers for bools"),
    (r"", r"there RuntimeError: The function 'binary_cross_entropy.*not differentiable", "right gradients here"),
    (r"tensordot", r"here RuntimeError: .*differ in number or size; there no error", "tensordot does not stretch"),
    (r"LR\(|SGD\(|Adam", r"here (ValueError|TypeError): \w+: invalid .*there no error", "settings checked"),
    (r"load_state_dict", r"here ValueError: .*there no error", "states of another kind are refused"),
    (r"backward", r"grad dtype: here float64; there float32|expected scalar type Float but", "the leaf's dtype"),
    (r"clip_grad_value_", r"nested_tensorlist", "torch's own mistake: no gradient at all"),
]


SETTINGS = {"lr", "initial_lr", "weight_decay", "momentum", "dampening", "nesterov", "eps"}  # compared of optimizers
# Types that are called otherwise there, and differ in nothing that is promised.
SAME_TYPE = {"OrderedDict": "dict", "builtin_function_or_method": "function", "_IncompatibleKeys": "IncompatibleKeys",
             "NonDynamicallyQuantizableLinear": "Linear"}  # fmt: skip


class Difference(NamedTuple):
    """Where the two libraries part: in what (`aspect`), of which variable, and what each has."""

    line: str
    aspect: str  # compared when shrinking: it stays the same difference
    detail: str

    def deliberate(self) -> str | None:
        """The reason for it, if it is one of `DELIBERATE`."""
        for line, detail, reason in DELIBERATE:
            if re.search(line, self.line) and re.search(detail, f"{self.aspect}; {self.detail}", re.DOTALL):
                return reason
        return None


# --- Running and comparing -----------------------------------------------------------------------------------------


class Pair:
    """One program on two libraries."""

    def __init__(self, ours: Any, theirs: Any):
        self.fresh = [names_of(ours), names_of(theirs)]
        self.names: list[dict[str, Any]] = [{}, {}]
        self.restart()

    def restart(self, lines: list[str] = []) -> Difference | None:  # noqa: B006
        """Forget everything and run these lines, up to the first difference."""
        for names, fresh in zip(self.names, self.fresh, strict=True):
            names.clear()
            names.update(fresh)
        return next(filter(None, map(self.step, lines)), None)

    def step(self, line: str) -> Difference | None:
        """Run one more line on both."""
        errors, warnings_of = [], []
        for names in self.names:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                try:
                    exec(line, names)
                    errors.append("")
                except Exception as error:
                    errors.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            warnings_of.append([w.message for w in warned if w.category is RuntimeWarning])
        kinds = [error.partition(":")[0] for error in errors]
        if kinds[0] != kinds[1]:
            aspect = f"here {kinds[0] or 'no error'}, there {kinds[1] or 'no error'}"
            return Difference(line, aspect, f"here {errors[0] or 'no error'}; there {errors[1] or 'no error'}")
        if warnings_of[0] and not warnings_of[1]:
            return Difference(line, "a warning here", str(warnings_of[0][0]))
        for name in sorted(set(self.names[0]) | set(self.names[1])):
            if not is_variable(name):
                continue
            if not all(name in names for names in self.names):
                return Difference(line, "assigned in one", name)
            both = [list(looked_at(names[name], names)) for names in self.names]
            for one, other in zip(*both, strict=False):
                if not equal(one, other):
                    after = f" (both raise {errors[0]})" if errors[0] else ""
                    aspect = one[0].rpartition(" ")[2]
                    return Difference(line, aspect, f"{name}{one[0]}: here {one[1]}; there {other[1]}{after}")
        return None


def is_variable(name: str) -> bool:
    """Whether a name is one of the program's own: v0, v1, ..."""
    return name[0] == "v" and name[1:].isdigit()


def names_of(library: Any) -> dict[str, Any]:
    """The names that a program starts with."""
    names = {"torch": library, "nn": library.nn, "F": library.nn.functional, "copy": copy}
    for source in HELPERS.values():
        exec(source, names)
    return names


def looked_at(value: Any, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Its facts, up to one at which it raises."""
    try:
        yield from facts(value, names)
    except Exception as error:  # as torch does for a view of `unbind` after a write
        words = "" if isinstance(error, RecursionError) else error  # which says where it was, not why
        yield " type", f"{type(error).__name__} when looked at: {words}"


def facts(value: Any, names: dict[str, Any], path: str = "", deep: bool = True) -> Iterator[tuple[str, Any]]:
    """All that is compared of a variable, as (what, fact)."""
    torch = names["torch"]
    kind = type(value).__name__
    yield f"{path} type", SAME_TYPE.get(kind, kind)
    if isinstance(value, torch.Tensor):
        yield f"{path} shape", tuple(value.shape)
        yield f"{path} dtype", str(value.dtype).removeprefix("torch.")
        yield f"{path} requires_grad", value.requires_grad
        yield f"{path} is_leaf", value.is_leaf
        yield f"{path} is_contiguous", value.is_contiguous()
        yield f"{path} values", value.detach().numpy()
        if value.is_leaf and deep:
            yield from facts(value.grad, names, f"{path}.grad", deep=False)
    elif isinstance(value, torch.nn.Module):
        with contextlib.suppress(TypeError, NotImplementedError):
            yield f"{path} len", len(value)
        yield f"{path} training", bool(value.training)
        yield f"{path} children", [name for name, _ in value.named_children()]
        kinds = [(name, type(module).__name__) for name, module in value.named_modules()]
        yield f"{path} modules", [(name, SAME_TYPE.get(kind, kind)) for name, kind in kinds]
        yield f"{path} buffers", [name for name, _ in value.named_buffers()]
        yield f"{path} parameters", [name for name, _ in value.named_parameters()]
        yield f"{path} state_dict", list(value.state_dict())
        for name, parameter in value.named_parameters():
            yield from facts(parameter, names, f"{path} {name}")
    elif hasattr(value, "param_groups"):
        for i, group in enumerate(value.param_groups):
            for key in sorted(set(group) & SETTINGS):
                yield f"{path} group {i} {key}", float(group[key])
            yield f"{path} group {i} params", len(group["params"])
            for j, p in enumerate(group["params"]):
                for key in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
                    found = value.state.get(p, {}).get(key)
                    yield f"{path} state {i}.{j} {key}", found.detach().numpy() if hasattr(found, "detach") else found
    elif hasattr(value, "get_last_lr"):
        yield f"{path} get_last_lr", [float(rate) for rate in value.get_last_lr()]
        yield f"{path} last_epoch", value.last_epoch
    elif isinstance(value, dict):
        if not {"param_groups", "base_lrs"} & set(value):  # such a state is seen by what loading it does
            yield f"{path} keys", [str(key) for key in value]
            for key, item in value.items():
                yield from facts(item, names, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        yield f"{path} len", len(value)
        for i, item in enumerate(value):
            yield from facts(item, names, f"{path}[{i}]")
    elif isinstance(value, (bool, int, float, str)):
        yield f"{path} values", value


def equal(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether two facts agree; numbers within `TOLERANCE`."""
    if one[0] != other[0]:
        return False
    a, b = one[1], other[1]
    if isinstance(a, (float, list)) and one[0].endswith(("values", "lr")) and np.shape(a) == np.shape(b):
        loose = one[0].endswith("values")  # of which type such a number was, nobody knows any more; rates are exact
        return bool(np.allclose(a, b, rtol=2e-3 if loose else 1e-9, atol=2e-4 if loose else 1e-12, equal_nan=True))
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return bool(a == b)
    if a.dtype.kind != "f" or a.shape != b.shape:
        return np.array_equal(a, b)
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0.1))
    return np.allclose(a, b, rtol=0, atol=TOLERANCE[str(a.dtype)] * largest, equal_nan=True)


# --- Finding and shrinking -----------------------------------------------------------------------------------------


def differences(pair: Pair, rng: random.Random) -> Iterator[tuple[list[str], Difference]]:
    """Write one program; yield each difference with the lines that lead to it."""
    pair.restart()
    writer = Writer(rng, pair.names[1])
    lines: list[str] = []
    waiting = writer.start()
    for number in range(LENGTH + 1):
        if number == LENGTH:
            waiting = writer.end()
            if not waiting:
                return
        line = waiting.pop(0) if waiting else writer.line()
        found = pair.step(line)
        if found:
            yield [*lines, line], found
        if found or too_wild(pair.names[1], rng):
            pair.restart(lines)
        else:
            lines.append(line)


def too_wild(names: dict[str, Any], rng: random.Random) -> bool:
    """Whether numbers became so large, or tensors, that the rest of the program would show little. NaN stays rare."""
    tensors = [v for v in names.values() if isinstance(v, names["torch"].Tensor)]
    if any(v.numel() > 400 for v in tensors):
        return True
    arrays = [v.detach().numpy() for v in tensors]
    if not all(np.isfinite(a).all() for a in arrays if a.dtype.kind == "f") and rng.random() < 0.8:
        return True
    return any(np.abs(a[np.isfinite(a)], dtype="float64").max(initial=0) > 1e4 for a in arrays if a.dtype.kind == "f")


def shrink(lines: list[str], still: Callable[[list[str]], bool]) -> list[str]:
    """The smallest program found, by leaving out lines and parts of lines, for which `still` holds."""
    before: list[str] = []
    while before != lines:
        before = lines
        for size in (8, 4, 2, 1):
            for end in range(len(lines), 0, -size):
                shorter = lines[: max(0, end - size)] + lines[end:]
                if still(shorter):
                    lines = shorter
        for i, line in enumerate(lines):
            if alias := re.fullmatch(r"(v\d+) = (v\d+)", line):
                rest = [re.sub(rf"\b{alias[1]}\b", alias[2], later) for later in lines[i + 1 :]]
                if still(lines[:i] + rest):
                    lines = lines[:i] + rest
                    break
        for i in reversed(range(len(lines))):
            tries = simpler(lines[i])
            while (line := next(tries, None)) is not None:
                if still([*lines[:i], line, *lines[i + 1 :]]):
                    lines = [*lines[:i], line, *lines[i + 1 :]]
                    tries = simpler(line)
    return lines


def simpler(line: str) -> Iterator[str]:
    """The line without one of its parts, or with a part of an expression in its place."""
    tree = ast.parse(line)

    def with_field(parent: ast.AST, field: str, old: Any, new: Any) -> Iterator[str]:
        setattr(parent, field, new)
        with contextlib.suppress(Exception):  # not every such tree is a program
            ast.parse(text := ast.unparse(tree))  # "del " without a target is none
            yield text
        setattr(parent, field, old)

    for parent in list(ast.walk(tree)):
        for field, old in list(ast.iter_fields(parent)):
            if isinstance(old, list):
                for i, item in enumerate(old):
                    if len(old) > 1 or field != "body":
                        yield from with_field(parent, field, old, old[:i] + old[i + 1 :])
                    for new in simpler_expressions(item):
                        yield from with_field(parent, field, old, [*old[:i], new, *old[i + 1 :]])
            else:
                for new in simpler_expressions(old):
                    yield from with_field(parent, field, old, new)


def simpler_expressions(node: Any) -> Iterator[ast.AST]:
    """What could stand in the place of an expression: what it is made of, or a smaller whole number."""
    if isinstance(node, (ast.With, ast.For)):
        yield node.body[0]
    if not isinstance(node, ast.expr) or ast.unparse(node).startswith("settled("):
        return  # a layer that is not settled has random weights
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value > 1:
        yield ast.Constant(1)
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        children[:1] = [node.func.value] if isinstance(node.func, ast.Attribute) else []
    for child in children:
        if isinstance(child, ast.expr) and not (isinstance(child, ast.Name) and not is_variable(child.id)):
            yield child  # but not `torch` or `nn`


def kind_of(lines: list[str], found: Difference) -> tuple[str, ...]:
    """Programs of one kind call the same functions in their last line and differ in the same, with the same words."""
    called = {node.attr for node in ast.walk(ast.parse(lines[-1])) if isinstance(node, ast.Attribute)}
    words = re.sub(r"[\d.,()\[\]-]+", "", found.detail.partition("there no error")[0]).strip()[:70]
    if not found.aspect.startswith("here"):
        words = ""  # numbers say nothing
    elif "inplace operation on another" in found.detail:
        called = set()  # raised at whatever reads the tensor next
    return (found.aspect, words, *sorted(name for name in called - {"nn", "optim", "lr_scheduler"} if name.islower()))


def to_paste(lines: list[str], found: Difference) -> str:
    """A program that shows the difference."""
    names = list(dict.fromkeys(re.findall(r"\bv\d+\b", "\n".join(lines))))
    letters = {name: f"{chr(97 + i % 26)}{i // 26 or ''}" for i, name in enumerate(names)}
    body = re.sub(r"\bv\d+\b", lambda match: letters[match[0]], "\n".join(lines))
    used = [name for name in HELPERS if name in body or (name == "settled" and "Net(" in body)]
    helpers = "".join(HELPERS[name] for name in used)
    shown = letters.get(found.detail.split(" ")[0].split(".")[0], "'no error'")
    shown += {"is_contiguous": ".is_contiguous()"}.get(found.aspect, ".grad" if ".grad " in found.detail else "")
    program = textwrap.indent(f"{helpers}{body}\nprint(library, {shown})", " " * 8, lambda line: line.strip() != "")
    return (
        "import copy, importlib\n"
        "for library in ('tinygrad_z2g', 'torch'):\n"
        "    torch = importlib.import_module(library)\n"
        "    nn, F = torch.nn, torch.nn.functional\n"
        f"    try:\n{program}\n"
        "    except Exception as error:\n"
        "        print(library, type(error).__name__, error)\n"
    )


def hunt(
    ours: Any, theirs: Any, seed: int, first: int = 0, programs: int | None = None, minutes: float = 10,
    kinds: int | None = None, say: Callable[[str], None] = print,
) -> dict[tuple[str, ...], tuple[list[str], Difference]]:  # fmt: skip
    """Run programs until time, their number or that of kinds is up; the smallest program found of each kind."""
    pair, trial = Pair(ours, theirs), Pair(ours, theirs)
    found_kinds: dict[tuple[str, ...], tuple[list[str], Difference]] = {}
    counts: collections.Counter = collections.Counter()
    shrunk: collections.Counter = collections.Counter()
    reasons: collections.Counter = collections.Counter()
    until, number = time.monotonic() + minutes * 60, first
    while (
        time.monotonic() < until
        and (programs is None or number < first + programs)
        and (kinds is None or len(found_kinds) < kinds)
    ):
        for lines, found in differences(pair, random.Random(f"{seed}.{number}")):
            reason = found.deliberate()
            if reason:
                reasons[reason] += 1
                continue
            rough = kind_of(lines, found)
            shrunk[rough] += 1
            if shrunk[rough] > 2:  # enough of these
                continue

            def still(candidate: list[str], aspect: str = found.aspect) -> bool:
                other = trial.restart(candidate)
                return other is not None and other.aspect == aspect and not other.deliberate()

            lines = shrink(lines, still)
            found = trial.restart(lines) or found
            kind = kind_of(lines, found)
            counts[kind] += 1
            if kind not in found_kinds:
                found_kinds[kind] = lines, found
                say(f"# {len(found_kinds)}. Seed {seed}, program {number}: {found.aspect}\n# {found.detail}")
                say(to_paste(lines, found))
        number += 1
    say(f"{number - first} programs, seed {seed}: {len(found_kinds)} kinds of differences")
    for kind, count in counts.most_common():
        say(f"{count:6} {'; '.join(kind)}")
    for reason, count in reasons.most_common():
        say(f"{count:6} on purpose: {reason}")
    return found_kinds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_torch", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--programs", type=int, help="how many; as many as there is time for if not given")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kinds", type=int, help="stop when so many kinds of differences were found")
    args = parser.parse_args(arguments)
    import torch

    import tinygrad_z2g

    torch.set_num_threads(1)
    return bool(hunt(tinygrad_z2g, torch, args.seed, args.first, args.programs, args.minutes, args.kinds))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
