"""The room gives every public name when it is asked for, and costs nothing before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cllm_lab import lattice


def test_every_public_name_is_there():
    assert len(lattice.__all__) == len(set(lattice.__all__)) > 20
    for name in lattice.__all__:
        assert getattr(lattice, name) is not None
    assert set(lattice.__all__) <= set(dir(lattice))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lattice.__file__).read_text(encoding="utf-8"))
    guard = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    assert {alias.name: node.module for node in guard.body for alias in node.names} == lattice._HOMES


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match=r"module 'cllm_lab\.lattice' has no attribute 'nonexistent'"):
        lattice.nonexistent  # noqa: B018


def test_importing_the_room_loads_none_of_its_modules():
    program = "import cllm_lab.lattice, sys; print(*[name for name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert "cllm_lab.lattice" in loaded
    assert not {name for name in loaded if name.startswith("cllm_lab.lattice.")}
    assert not loaded & {"numpy", "scipy", "numba"}
