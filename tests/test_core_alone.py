"""The evening by itself: `core/` and `arrays/`, without the rest of the package, train a GPT and write with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.core import attach
from tinygrad_z2g.models import GPT, GPTConfig

PACKAGE = Path(z2g.__file__).parent
PROGRAM = """
import json
import sys

import numpy as np
from tinygrad_z2g.core.gpt import GPT, Cache, GPTConfig
from tinygrad_z2g.core.modes import no_grad
from tinygrad_z2g.core.optimizers import SGD, AdamW, clip_grad_norm_
from tinygrad_z2g.core.tensor import Tensor

model, found = GPT(GPTConfig(7, context=8, layers=2, heads=2, width=16, dropout=0.1)), []
table, rest = [*model.parameters()][:1], [*model.parameters()][1:]
ids = np.arange(9)[None].repeat(4, 0) % 7
for _ in range(60):
    _, loss = model(Tensor.make(ids[:, :-1]), Tensor.make(ids[:, 1:]))
    for optimizer in (optimizers := [AdamW(rest, lr=3e-3), SGD(table, lr=0.1)]) if not found else optimizers:
        optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    found.append([loss.item(), norm.item()])
prompt, cache = Tensor.make(np.array([[1, 2, 3]])), Cache()
written = [model.generate(prompt, 12, **settings).array.tolist() for settings in ({"temperature": 0}, {"top_k": 3})]
model.eval()
with no_grad():
    whole = model(Tensor.make(ids[:, :8]))[0].array
    parts = [model(Tensor.make(ids[:, start:stop]), cache=cache)[0].array for start, stop in ((0, 3), (3, 7), (7, 8))]
loaded = [name for name in sys.modules if name.startswith("tinygrad_z2g.")]
print(json.dumps([found, written, float(np.abs(whole - np.concatenate(parts, 1)).max()), loaded]))
"""


def test_the_core_alone_trains_and_writes(tmp_path):
    """Losses and norms are those of the whole package, but for rounding; so is what is written."""
    home = tmp_path / "tinygrad_z2g"
    home.mkdir()
    (home / "__init__.py").touch()
    for room in ("core", "arrays"):
        shutil.copytree(PACKAGE / room, home / room)
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    found, written, difference, loaded = json.loads(run.stdout)
    assert {name.split(".")[1] for name in loaded} == {"core", "arrays"}
    assert difference < 1e-5  # with the cache, in parts, as without

    z2g.set_default_device("cpu")
    z2g.manual_seed(0)
    model = GPT(GPTConfig(7, context=8, layers=2, heads=2, width=16, dropout=0.1))
    table, *rest = model.parameters()
    optimizers = [optim.AdamW(rest, lr=3e-3), optim.SGD([table], lr=0.1)]
    ids, expected = z2g.arange(9).repeat(4, 1) % 7, []
    for _ in range(60):
        _, loss = model(ids[:, :-1], ids[:, 1:])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        expected.append([loss.item(), norm.item()])
    z2g.set_default_device(None)
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    np.testing.assert_allclose(found[:10], expected[:10], rtol=1e-4)
    prompt = z2g.tensor([[1, 2, 3]], device="cpu")
    assert written == [model.generate(prompt, 12, temperature=0).tolist(), model.generate(prompt, 12, top_k=3).tolist()]


@pytest.mark.parametrize("settings", [{}, {"top_k": 2}, {"temperature": 0.5}, {"temperature": 0}], ids=str)
def test_the_plain_way_of_writing_is_the_wide_one(device, settings):
    """`generate` takes the core's loop where it can; `stream` draws the same tokens, past the context too."""
    model, prompt = GPT(GPTConfig(7, context=6, layers=1, heads=2, width=8)), [[1, 2], [3, 4]]
    z2g.manual_seed(1)
    got = model.generate(z2g.tensor(prompt), 12, **settings).tolist()
    z2g.manual_seed(1)
    steps = model.stream(prompt, **settings)
    assert got == [list(row) for row in zip(*zip(*prompt), *(next(steps) for _ in range(12)))]  # noqa: B905


def test_attach_replaces_and_adds():
    class Home:
        """Its own."""

        def old(self):
            return 1

    class More:
        """Another."""

        setting = 3

        def old(self):
            return 2

        @property
        def new(self):
            return self.setting

    attach.attach(Home, More)
    assert (Home().old(), Home().new, Home.__doc__) == (2, 3, "Its own.")
    assert Home.old.__qualname__ == f"{Home.__qualname__}.old"
