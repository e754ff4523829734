"""The evening: `core/` is small, whole and plain, and it is what runs when a GPT trains."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_structure import FILES, GRAPH, PACKAGE, ROOT

from tinygrad_z2g.tools.learn import reading

CORE = {name: path for name, path in FILES.items() if name.split(".")[0] == "core"}
BUDGET = 1800


def test_the_core_keeps_its_budget():
    """Every line counts that is not blank, docstrings too. What does not fit belongs into a room around it."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in CORE.items()}
    lines = {name: sum(bool(line.strip()) for line in text.splitlines()) for name, text in texts.items()}
    assert sum(lines.values()) <= BUDGET, lines


def test_the_core_stands_on_arrays_alone():
    used = {other for name in CORE for other in GRAPH[name]}
    assert {other.split(".")[0] for other in used} == {"arrays", "core"}


@pytest.mark.parametrize("name", CORE)
def test_the_core_is_plain(name):
    """No decorators but those of classes and NumPy's silence, no timing remarks, and no word of what stands in other
    rooms."""
    tree, text = ast.parse(CORE[name].read_text(encoding="utf-8")), CORE[name].read_text(encoding="utf-8")
    allowed = ("final", "property", "staticmethod", "classmethod", "functools.wraps", "silent", "dataclass")
    decorators = {
        ast.unparse(d)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        for d in node.decorator_list
    }
    assert [d for d in decorators if not d.startswith(allowed) and not d.endswith(".setter")] == []
    words = ("µs", " ms ", "times faster", "times as fast", "float16", "autocast", "numba", "cuda graph", "capture")
    assert [word for word in words if word in text.lower()] == []


ALONE = """
import importlib.machinery, sys, types
import numpy as np
package = types.ModuleType("tinygrad_z2g")
package.__path__ = [sys.argv[1]]
sys.modules["tinygrad_z2g"] = package
from tinygrad_z2g.core.gpt import GPT, GPTConfig
from tinygrad_z2g.core.optimizers import AdamW, clip_grad_norm_
from tinygrad_z2g.core.tensor import Tensor

text = "the cat sat on the mat. " * 40
letters = sorted(set(text))
ids = np.array([letters.index(c) for c in text])
model = GPT(GPTConfig(vocab_size=len(letters), context=16, layers=2, heads=2, width=16, dropout=0.0))
optimizer = AdamW(model.parameters(), lr=1e-2)
rng = np.random.default_rng(0)
for step in range(60):
    starts = rng.integers(0, len(ids) - 17, 16)
    batch = np.stack([ids[i : i + 17] for i in starts])
    _, loss = model(Tensor.make(batch[:, :-1].copy()), Tensor.make(batch[:, 1:].copy()))
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
written = model.eval().generate(Tensor.make(np.array([[letters.index("t")]])), 40, temperature=0.1)
print(round(loss.item(), 2), "".join(letters[i] for i in written.array[0]))
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("tinygrad_z2g.")}))
"""


def test_the_core_alone_trains_and_writes():
    """Without the package around it: no fast form, no cast, no method of another room."""
    run = subprocess.run([sys.executable, "-W", "error", "-c", ALONE, str(PACKAGE)], capture_output=True, text=True,
                         check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""})  # fmt: skip
    assert run.returncode == 0, run.stderr
    first, rooms = run.stdout.splitlines()
    loss, text = first.split(" ", 1)
    assert float(loss) < 0.5 and "the cat sat on the mat" in text
    assert rooms == "['arrays', 'core']"


def test_what_runs_when_a_gpt_trains_stands_in_the_core():
    """With plain forms, two thirds of the lines of functions; with the arrays that it stands on, their checks and
    random numbers, five sixths."""
    ran = reading.lines_of_a_gpt(TINYGRAD_Z2G_PLAIN="1")

    def share(*rooms):
        inside = [lines for file, lines in ran.items() if Path(file).relative_to(PACKAGE).parts[0] in rooms]
        return sum(map(len, inside)) / sum(map(len, ran.values()))

    outside = ", ".join(f"{Path(file).relative_to(PACKAGE)} {len(lines)}" for file, lines in ran.items())
    assert share("core") >= 0.63 and share("core", "arrays") >= 0.83, outside
