"""`parts.fast` is loaded when it is asked for; without numba everything else works."""

import subprocess
import sys
from pathlib import Path

import pytest

from cllm_lab.model import parts
from tests.model.configurations import TABLES

ROOT = Path(__file__).parents[3]


def run(script):
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


END_TO_END = """
import sys
for heavy in ("numba", "scipy", "matplotlib", "pandas", "ipywidgets"):
    sys.modules[heavy] = None

from cllm_lab.model import parts
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.gradient_check import gradient_check
from cllm_lab.model.transformer import Transformer

config = ModelConfig(vocab_size=7, context_length=4, d_model=8, n_heads=2, n_layers=1, activation="gelu", dropout=0.1)
model = Transformer(config, parts=parts.reference)
tokens, targets = [[0, 1, 2, 3]], [[1, 2, 3, 4]]
print(model.forward(tokens).logits.shape, model.gradients(tokens, targets)[0] > 0.0)
print(max(gradient_check(model, tokens, targets, dropout_seed=1).values()) < 1e-6)

for ask in (lambda: parts.fast, lambda: parts.by_name("fast"), lambda: Transformer(config)):
    try:
        ask()
    except ModuleNotFoundError as error:
        print(error.name, "|", error)
"""


def test_the_reference_works_end_to_end_without_numba_and_fast_says_what_is_missing():
    missing = "numba | parts.fast needs numba, which is not installed; parts.reference works with NumPy alone"
    assert run(END_TO_END).splitlines() == ["(1, 4, 7) True", "True", missing, missing, missing]


def test_numba_is_loaded_with_the_fast_parts_and_not_before():
    script = """
import sys
from cllm_lab.model import parts, transformer, gradient_check
transformer.Transformer(transformer.ModelConfig(vocab_size=5), parts=parts.reference)
print("numba" in sys.modules)
parts.fast
print("numba" in sys.modules)
"""
    assert run(script).split() == ["False", "True"]


def test_another_missing_module_is_not_blamed_on_numba():
    script = """
import sys
sys.modules["cllm_lab.model.parts.kernels"] = None
from cllm_lab.model import parts
try:
    parts.fast
except ImportError as error:
    print("kernels" in str(error), "numba" in str(error))
"""
    assert run(script).split() == ["True", "False"]


def test_tables_by_name():
    assert parts.by_name("reference") is parts.reference is TABLES["reference"]
    assert parts.by_name("fast") is parts.fast is TABLES["fast"]


@pytest.mark.parametrize("wrong", ["slow", "", None])
def test_a_table_that_does_not_exist(wrong):
    with pytest.raises(ValueError, match=f"no parts table {wrong!r}; the tables are 'reference' and 'fast'"):
        parts.by_name(wrong)


def test_an_attribute_that_does_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'faster'"):
        parts.faster  # noqa: B018
