"""`python tests/mutation.py`: break each gradient rule of the package in every way listed below; do the tests notice?

A rule is a function of `grad` inside the package, a kernel that computes a gradient, or a statement that prepares
numbers for such functions alone. It gets one fault at a time: another sign, a factor, a term dropped, a product
reversed, a transpose forgotten, a neighbouring variable, a constant off by one, a comparison turned.

Each check first runs without a fault, must be green, and shows which rules it executes. Each mutant gets a fork of
this process: the code of its function is replaced there, and the checks that execute its rule run until one goes red:
the mutant is *killed*. First come the cases of `python -m tinygrad_z2g.gradcheck` (milliseconds); whoever survives
those meets the tests, `test_gradient` first, then the quickest. A check that takes 100 times the processor time that it
takes without the fault has gone red too. Left out, so that the score is a lower bound: test files that are not about
gradients, memory layouts, most of the runs on the fake GPU, scripts as a whole, and two thirds of the examples that
Hypothesis draws (of 60, one suffices to learn which rules a test executes, and 20 are drawn for a mutant).

Prints survivors and the score; tests/README.md explains those that are known. Exit code 1 if fewer than 95 % are
killed. `--list` only prints the mutants, `--cases` stops after the cases (a minute). Needs `os.fork`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import os
import resource
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, settings

sys.path.insert(0, str(Path(__file__).parent.parent))  # this checkout, whatever is installed
import tinygrad_z2g as z2g
from tinygrad_z2g.tools.gradcheck.__main__ import check
from tinygrad_z2g.tools.gradcheck.cases import cases

PACKAGE = Path(z2g.__file__).parent
FILES = [*sorted(PACKAGE.glob("ops/*.py")), *sorted(PACKAGE.glob("nn/*.py")),
         *sorted(PACKAGE.glob("core/**/*.py")), PACKAGE / "fast/reference.py", PACKAGE / "fast/forms.py",
         PACKAGE / "walks/again.py"]  # fmt: skip
RULES = {  # those whose first argument is not called `grad`
    "reference.py": {"cross_entropy", "gelu_exact", "gelu_tanh", "sum_rows_by_id"},  # a gradient or slope is returned
    "engine.py": {"arrive", "match", "_whole"},  # the sum over paths, the reverse of broadcasting
    "again.py": {"_by_twin"},
    "functional.py": {"plain", "plain_gelu", "remake", "remade_n", "remade_r", "there"},  # for walks that are recorded
    "losses.py": {"remake"},
    "recurrent.py": {"_plain_scan"},
    "shape.py": {"there"},
    "window.py": {"add_back", "there", "_plain_convolution"},
    "reduction.py": {"spread"},
}
MODULES = {"xp", "np", "math", "fast", "of", "heapq"}  # not operands
TESTS = ["ops", "nn", "attention", "traps_ops", "engine", "autograd", "amp", "second_order"]
CHOSEN = "not layout and not history and not print and not (fake and not test_device)"


class Mutant(NamedTuple):
    """One fault: the text of a file between two byte offsets, replaced, in a rule that lies in a function."""

    file: Path
    line: int
    start: int
    stop: int
    before: str
    after: str
    function: tuple[str, int]  # name and first line of the outermost function around the fault
    rule: tuple[str, int]  # of the rule itself

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line}  {before}  ->  {after}"


# --- Faults ------------------------------------------------------------------------------------------------------

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
             ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult}  # fmt: skip
COMPARISONS = {ast.Lt: [ast.GtE, ast.LtE], ast.GtE: [ast.Lt, ast.Gt], ast.Gt: [ast.LtE, ast.GtE],
               ast.LtE: [ast.Gt, ast.Lt], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot],
               ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In]}  # fmt: skip
ATOMS = (ast.Name, ast.Constant, ast.Call, ast.Attribute)  # need no parentheses
FORGETTABLE = {"swapaxes", "transpose", "sum", "reshape", "astype", "copy"}  # methods


def faults(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    """What may be written by mistake in place of a node."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        yield node.left  # a term or factor dropped
        yield node.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
        yield ast.Pass()
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS[type(node.ops[0])]:
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in FORGETTABLE:
            yield node.func.value
        if node.func.attr in ("cumsum", "cumprod", "flip", "moveaxis"):  # functions of xp
            yield node.args[0]
        if node.func.attr in ("multiply", "divide", "subtract", "matmul") and len(node.args) == 2:
            for operand in node.args:  # an operand twice
                if ast.unparse(node.args[0]) != ast.unparse(node.args[1]):
                    yield ast.Call(node.func, [operand] * 2, node.keywords)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "product":  # of matrices
        yield ast.Call(node.func, node.args[::-1], [])
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names and len(names) > 1:
        yield ast.Name(names[(names.index(node.id) + 1) % len(names)], ast.Load())


def results(rule: ast.AST) -> Iterator[ast.expr]:
    """The expressions that a rule returns, but for None and 0, which have no sign and no factor."""
    returned = [node.value for node in ast.walk(rule) if isinstance(node, ast.Return)]
    for value in [rule.body] if isinstance(rule, ast.Lambda) else returned:
        for part in value.elts if isinstance(value, ast.Tuple) else [value]:
            zero = isinstance(part, ast.BinOp) and isinstance(part.right, ast.Constant) and part.right.value == 0
            if part is not None and not isinstance(part, ast.Constant) and not zero:
                yield part


# --- Finding the rules -------------------------------------------------------------------------------------------


def is_rule(node: ast.AST, file: Path) -> bool:
    """Whether this function's business is a gradient."""
    if not isinstance(node, (ast.Lambda, ast.FunctionDef)):
        return False
    first = [a.arg for a in node.args.args][:1]
    name = "" if isinstance(node, ast.Lambda) else node.name
    return first == ["grad"] or name.endswith("_backward") or name in RULES.get(file.name, ())


def key(node: ast.FunctionDef | ast.Lambda) -> tuple[str, int]:
    """Name and first line, as in a code object."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min(n.lineno for n in [node, *node.decorator_list])


def outermost(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions of a module and the methods of its classes."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (n for n in inside if isinstance(n, ast.FunctionDef))


def prepared(function: ast.FunctionDef, rules: list[ast.AST]) -> Iterator[ast.Assign]:
    """Statements of a function whose results its rules alone read, and read as numbers."""
    inside = {id(n) for rule in rules for n in ast.walk(rule)}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and id(node) not in inside and isinstance(node.targets[0], ast.Name):
            reads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
                     and n.id == node.targets[0].id]  # fmt: skip
            if reads and all(id(n) in inside for n in reads):
                yield node


def mutants(file: Path) -> Iterator[Mutant]:
    """All faults in the rules of a file, each text once per place."""
    source = file.read_bytes()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    seen = set()
    for function in outermost(ast.parse(source)):
        rules = [node for node in ast.walk(function) if is_rule(node, file)]
        for place in [*rules, *prepared(function, rules)]:
            statement = isinstance(place, ast.Assign)
            rule = key(function if statement else place)
            body = [place.value] if statement else place.body if isinstance(place.body, list) else [place.body]
            for node, fault in all_faults(place, body):
                ends = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
                start, stop = (lines[row - 1] + column for row, column in ends)
                after = ast.unparse(ast.fix_missing_locations(copy.deepcopy(fault)))
                if isinstance(fault, ast.expr) and not isinstance(fault, ATOMS):
                    after = f"({after})"
                if (start, stop, after) not in seen:
                    seen.add((start, stop, after))
                    before = source[start:stop].decode()
                    yield Mutant(file, node.lineno, start, stop, before, after, key(function), rule)


def all_faults(place: ast.AST, body: list[ast.AST]) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(node, what to write instead) for a rule or a statement."""
    inside = [node for part in body for node in ast.walk(part)]
    skipped = {id(n) for node in inside if isinstance(node, (ast.Raise, ast.JoinedStr)) or asks_for_library(node)
               for n in ast.walk(node)}  # fmt: skip
    called = {id(node.func) for node in inside if isinstance(node, ast.Call)}
    loads = [n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in called]
    names = [n for n in dict.fromkeys(loads) if n not in MODULES and not n[0].isupper()]
    for result in results(place) if not isinstance(place, ast.Assign) else ():
        yield result, ast.UnaryOp(ast.USub(), result)
        yield result, ast.BinOp(ast.Constant(2), ast.Mult(), result)
    for node in inside:
        if id(node) not in skipped and id(node) not in called:
            for fault in faults(node, names):
                yield node, fault


def asks_for_library(node: ast.AST) -> bool:
    """of(q) is of(k): which array is asked makes no difference."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "of"


# --- Running -----------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """Something that can go red: how, how long it takes, and the rules that it executes: (file, name, first line)."""

    run: Callable[[], str]  # "" if green, "differs" if an assertion failed, else "crashes"
    seconds: float
    executes: set[tuple[str, str, int]]


def timed(run: Callable[[], str]) -> Check:
    """A check, after a run without a fault; RuntimeError if that is red."""
    EXECUTED.clear()
    start = time.process_time()
    if run():
        raise RuntimeError(f"{run} is red without a fault")
    return Check(run, time.process_time() - start, set(EXECUTED))


class Case(NamedTuple):
    """A case of gradcheck, for first or second derivatives."""

    case: tuple
    order: int = 1

    def __call__(self) -> str:
        with np.errstate(all="ignore"):
            try:
                return "differs" if check(self.case, "cpu", self.order)["message"] else ""
            except Exception:
                return "crashes"


class Item:
    """A test of pytest."""

    def __init__(self, item: pytest.Item, reports: list):
        self.item, self.reports = item, reports

    def __repr__(self) -> str:
        return self.item.nodeid

    def __call__(self) -> str:
        self.reports.clear()
        self.item.ihook.pytest_runtest_protocol(item=self.item, nextitem=None)
        failed = [r for r in self.reports if r.failed]
        if not failed:
            return ""
        last = str(failed[0].longrepr).rstrip().splitlines()[-1] if failed[0].longrepr else ""
        return "differs" if "AssertionError" in last or "Failed" in last or "GradcheckError" in last else "crashes"


FUNCTIONS: dict[tuple[str, str, int], list[types.FunctionType]] = {}  # by file, name and first line of their code
EXECUTED: set[tuple[str, str, int]] = set()  # what noted itself here


def replace(file: Path, function: tuple[str, int], module: types.CodeType) -> None:
    """Give the functions of this name and line that live in this process the code that they have in another module."""

    def find(code: types.CodeType) -> types.CodeType | None:
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        here = [c for c in inner if (c.co_name, c.co_firstlineno) == function]
        return here[0] if here else next(filter(None, map(find, inner)), None)

    code = find(module)
    for f in FUNCTIONS.get((str(file), *function), []):
        f.__code__ = code
        f.__globals__["_executed"] = EXECUTED


def note_executions(file: Path) -> None:
    """Make each function of a file, and each rule in it, add itself to EXECUTED when it runs."""
    tree = ast.parse(file.read_bytes())
    functions = list(outermost(tree))
    for node in [*functions, *(n for f in functions for n in ast.walk(f) if n is not f and is_rule(n, file))]:
        note = ast.parse(f"_executed.add({(str(file), *key(node))!r})").body[0]
        if isinstance(node, ast.Lambda):
            node.body = ast.Subscript(ast.Tuple([note.value, node.body], ast.Load()), ast.Constant(1), ast.Load())
        else:
            node.body.insert(0, note)
    module = compile(ast.fix_missing_locations(tree), str(file), "exec")
    for function in functions:
        replace(file, key(function), module)


def mutate(mutant: Mutant) -> None:
    """Let the fault in."""
    whole = mutant.file.read_bytes()
    text = whole[: mutant.start] + mutant.after.encode() + whole[mutant.stop :]
    replace(mutant.file, mutant.function, compile(text, str(mutant.file), "exec"))


def fate(mutant: Mutant, checks: list[Check]) -> str:
    """What goes red in a fork of this process ("case" or "test") and how; "" if the mutant survives."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        settings.load_profile("mutation")
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        verdict = ""
        try:
            mutate(mutant)
            for one in checks:
                signal.setitimer(signal.ITIMER_PROF, 5 + 100 * one.seconds)
                kind = "case" if isinstance(one.run, Case) else "test"
                os.write(write, f"\n{kind} hangs".encode())  # true if nothing follows
                verdict = one.run()
                if verdict:
                    verdict = f"{kind} {verdict}"
                    break
        except BaseException as error:
            verdict = f"failed to run: {error!r}"
        os.write(write, f"\n{verdict}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        last = pipe.read().rsplit("\n", 1)[-1]
    os.waitpid(child, 0)
    return last


class Plugin:
    """Runs mutants in place of pytest's loop over the tests that it has collected."""

    def __init__(self, chosen: list[Mutant], cases_alone: bool):
        self.cases_alone = cases_alone
        self.chosen, self.reports, self.survivors, self.fates = chosen, [], chosen, Counter()  # alive till proven dead

    def pytest_collection(self) -> None:
        """No shrinking: that a check is red is all we ask."""
        for name, n in (("once", 1), ("mutation", 20)):
            profile = settings(settings.get_profile("ci"), max_examples=n, phases=[Phase.explicit, Phase.generate])
            settings.register_profile(name, profile)
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        start = time.perf_counter()
        for f in gc.get_objects():
            if isinstance(f, types.FunctionType):
                code = f.__code__
                FUNCTIONS.setdefault((code.co_filename, code.co_name, code.co_firstlineno), []).append(f)
        for file in FILES:
            note_executions(file)
        by_cases = [timed(Case(case, order)) for order in (1, 2) for case in cases()]
        gc.freeze()
        left = self.those_that_survive(by_cases, self.chosen)
        self.say(
            f"{len(left)} of {len(self.chosen)} survive the {len(by_cases)} cases: {time.perf_counter() - start:.0f} s"
        )
        if self.cases_alone:
            self.survivors = left
            return True
        settings.load_profile("once")
        by_tests = []
        for item in session.items:
            try:
                by_tests.append(timed(Item(item, self.reports)))
            except RuntimeError as error:
                self.say(f"left out: {error}")
        by_tests.sort(key=lambda check: ("test_gradient" not in repr(check.run), check.seconds))
        self.say(f"{len(by_tests)} tests without a fault: {time.perf_counter() - start:.0f} s")
        self.survivors = self.those_that_survive(by_tests, left, say=True)
        self.fates["survived"] = len(self.survivors)
        return True

    def those_that_survive(self, checks: list[Check], chosen: list[Mutant], say: bool = False) -> list[Mutant]:
        """The mutants that none of these checks kills."""
        left = []
        for mutant in chosen:
            executing = [c for c in checks if (str(mutant.file), *mutant.rule) in c.executes]
            verdict = fate(mutant, executing)
            if verdict.startswith(("case", "test")):
                self.fates[verdict] += 1
                continue
            left.append(mutant)
            if say:
                self.say(f"survived {len(executing)} tests: {mutant} {verdict}")
        return left

    def say(self, text: str) -> None:
        os.write(1, f"{text}\n".encode())


def main() -> int:
    """Run all mutants and print the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--only", metavar="TEXT", default="", help="only mutants whose line in --list has it")
    parser.add_argument("--cases", action="store_true", help="only the cases of gradcheck, not the tests")
    args = parser.parse_args()
    chosen = [m for file in FILES for m in mutants(file) if args.only in str(m)]
    if args.list:
        print(*chosen, f"{len(chosen)} mutants", sep="\n")
        return 0
    plugin = Plugin(chosen, args.cases)
    folder = Path(__file__).parent
    options = [
        "-s",
        "-p",
        "no:terminal",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "-o",
        "addopts=",
        "-p",
        "no:xdist",
        "-m",
        "not slow and not gpu",
        "-k",
        CHOSEN,
    ]
    pytest.main([*options, *(str(folder / f"test_{name}.py") for name in TESTS)], plugins=[plugin])
    n, killed = len(chosen), len(chosen) - len(plugin.survivors)
    crashes = sum(count for verdict, count in plugin.fates.items() if verdict.endswith("crashes"))
    print(f"\n{n} mutants, {killed} killed: {killed / max(1, n):.1%}; by what: {dict(plugin.fates)}")
    print(f"without the {crashes} whose code raised an exception: {(killed - crashes) / max(1, n - crashes):.1%}")
    return 0 if killed >= 0.95 * n else 1


if __name__ == "__main__":
    sys.exit(main())
