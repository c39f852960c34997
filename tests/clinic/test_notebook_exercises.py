"""The exercises as they stand in the notebooks: every stub asks, every folded-away solution passes."""

import ast
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cllm_lab.clinic.exercises import EXERCISES, check_exercise
from cllm_lab.resources import notebooks_path

SOLUTION = re.compile(
    r"<details><summary>Solution</summary>\n\n```python\n(?P<code>.*?)```\n\n</details>", re.S
)


@dataclass(frozen=True)
class Asked:
    """An exercise in a notebook: the cell with the stub, and the solution folded away below it."""

    notebook: str
    exercise: str
    function: str
    stub: str
    solution: str

    def __str__(self) -> str:
        return f"{self.notebook}: {self.exercise}"


def exercises_in(path: Path) -> Iterator[Asked]:
    """A solution belongs to the last code cell above it, which defines a function and hands it to the check."""
    above = ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            above = source
            continue
        solutions = SOLUTION.findall(source)
        assert source.count("<summary>Solution") == len(solutions), path.name
        for code in solutions:
            check = ast.parse(above).body[-1]
            assert isinstance(check, ast.Expr) and isinstance(check.value, ast.Call)
            name, function = check.value.args
            assert isinstance(name, ast.Constant) and isinstance(function, ast.Name)
            yield Asked(path.stem, name.value, function.id, above, code)


ASKED = [asked for path in sorted(notebooks_path().glob("*.ipynb")) for asked in exercises_in(path)]
EACH = pytest.mark.parametrize("asked", ASKED, ids=str)


def function_of(asked: Asked, source: str, folder: Path) -> Callable[..., Any]:
    """The function that a piece of a notebook defines, with `np` and nothing else to rely on."""
    (definition,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    assert definition.name == asked.function
    assert [argument.arg for argument in definition.args.args] == list(EXERCISES[asked.exercise].parameters)
    path = folder / "answer.py"
    path.write_text(f"import numpy as np\n\n{ast.unparse(definition)}\n", encoding="utf-8")
    specification = importlib.util.spec_from_file_location("answer", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return getattr(module, asked.function)


def test_every_exercise_is_asked_in_one_notebook() -> None:
    assert sorted(asked.exercise for asked in ASKED) == sorted(EXERCISES)


@EACH
def test_the_stub_is_not_attempted(asked: Asked, tmp_path: Path) -> None:
    verdict = check_exercise(asked.exercise, function_of(asked, asked.stub, tmp_path))
    assert verdict.outcome == "NOT ATTEMPTED"


@EACH
def test_the_solution_passes(asked: Asked, tmp_path: Path) -> None:
    verdict = check_exercise(asked.exercise, function_of(asked, asked.solution, tmp_path))
    assert verdict.passed, verdict
