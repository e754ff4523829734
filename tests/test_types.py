"""What a type checker tells a user is so: `typed_user_code.py` passes mypy, and what is wrong there would not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ROOT / "tests" / "typed_user_code.py"


def complaints(path, cache):
    """What mypy says of one file; the package is read for its types, and is not judged."""
    command = [sys.executable, "-m", "mypy", "--python-version", "3.11", "--ignore-missing-imports"]
    command += ["--follow-imports", "silent", "--cache-dir", str(cache), "--no-error-summary", str(path)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=environment, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow  # half a minute of one core; .ci/run calls mypy itself
def test_user_code_has_types(tmp_path):
    pytest.importorskip("mypy")
    assert complaints(CODE, tmp_path / "cache") == []
    wrong = tmp_path / "wrong.py"
    planted = "\nassert_type(x.sum(), float)\nassert_type(x.max(dim=1), z2g.Tensor)\nnet.layer(x).no_such_method()\n"
    wrong.write_text(CODE.read_text("utf-8") + planted, encoding="utf-8")
    found = complaints(wrong, tmp_path / "cache")
    codes = [line.rpartition("[")[2] for line in found]
    assert codes == ["assert-type]", "assert-type]", "attr-defined]"]
