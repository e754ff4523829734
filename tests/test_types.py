"""What a type checker tells a user is so: `typed_user_code.py` passes mypy, and what is wrong there would not."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ROOT / "tests" / "typed_user_code.py"
# Files from which users import what others define
DOORS = ("", "backends", "distributions", "models", "nn", "nn/utils", "optim", "text", "utils", "utils/data")


@pytest.mark.parametrize("place", DOORS)
def test_what_is_gathered_is_handed_on(place):
    """`from .x import name` is an import for the file's own use, to mypy in strict mode and to pyright, also that in
    editors: users get "name is not exported". `from .x import name as name` hands it on; so does `name = ...`."""
    tree = ast.parse((ROOT / "tinygrad_z2g" / place / "__init__.py").read_text("utf-8"))
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    kept = [alias.name for alias in imports if alias.asname != alias.name and (alias.asname or alias.name)[0] != "_"]
    assert [name for name in kept if name not in ("annotations", "TYPE_CHECKING")] == []


def complaints(path, cache):
    """What mypy in strict mode says of one file of a user; the package is read for its types, and is not judged."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--python-version", "3.11"]
    command += ["--ignore-missing-imports", "--follow-imports", "silent"]
    command += ["--cache-dir", str(cache), "--no-error-summary", str(path)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=environment, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow  # half a minute of one core; .ci/run calls mypy itself
def test_user_code_has_types(tmp_path):
    pytest.importorskip("mypy")
    assert complaints(CODE, tmp_path / "cache") == []
    wrong = tmp_path / "wrong.py"
    planted = [
        ("assert_type(x.sum(), float)", "assert-type"),
        ("assert_type(x.max(dim=1), z2g.Tensor)", "assert-type"),
        ("net.layer(x).no_such_method()", "attr-defined"),
        ("z2g.no_such_function(x)", "attr-defined"),
        ("nn.Linear(4)", "call-arg"),
        ("layer.bias.sum()", "union-attr"),
        ("optim.AdamW(net.parameters(), lr='fast')", "arg-type"),
    ]
    code = "\n".join([CODE.read_text("utf-8"), *(line for line, _ in planted), ""])
    wrong.write_text(code, encoding="utf-8")
    found = complaints(wrong, tmp_path / "cache")
    codes = [line.rpartition("[")[2].rstrip("]") for line in found if ": error: " in line]
    assert codes == [code for _, code in planted]
