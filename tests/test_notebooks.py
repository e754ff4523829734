"""The examples as notebooks, which jupytext makes from the scripts: they are whole, and run cell by cell."""

import argparse
import ast
import sys
import types

import pytest
from example_modules import EXAMPLES, importable


def cells(name):
    """The notebook of a script: the text of its code cells."""
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.read(EXAMPLES / f"{name}.py")
    made = jupytext.reads(jupytext.writes(notebook, fmt="ipynb"), fmt="ipynb")  # as the file would be
    return [cell.source for cell in made.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", ["00_one_page", "07_backprop_by_hand", "10_autograd", "18_gpt"])
def test_a_notebook_has_the_whole_script_in_cells_that_stand_alone(name):
    parts = cells(name)
    assert len(parts) > 3
    script = ast.parse((EXAMPLES / f"{name}.py").read_text("utf-8"))
    assert sum(len(ast.parse(part).body) for part in parts) == len(script.body)


@pytest.fixture
def in_examples(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with importable():
        yield


@pytest.mark.parametrize("name, flags", [("00_one_page", []), ("07_backprop_by_hand", ["--quick"])])
def test_a_notebook_runs_cell_by_cell(name, flags, in_examples, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *flags])
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    for part in cells(name):
        exec(compile(part, f"<cell of {name}>", "exec"), vars(main))
    assert "result: " in capsys.readouterr().out


def test_the_flags_of_a_kernel_are_not_the_example_s(in_examples, monkeypatch):
    import common

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel-1.json"])
    args = common.parse(common.arguments("", 70, device=False), steps=2)
    assert isinstance(args, argparse.Namespace) and args.steps == 70 and not args.quick
