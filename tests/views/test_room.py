"""The room as a whole: drawing leaves no global state, and nobody pays for it who does not draw."""

import subprocess
import sys

import cllm_lab as lab

SCRIPT = """
import sys
import cllm_lab as lab
assert not {"matplotlib", "pandas", "cllm_lab.views"} & set(sys.modules), "imported before anything was drawn"
lab.line_chart({"one": ([1, 2], [2.0, 1.0])}, x_label="x", y_label="y", words="falls").png()
lab.attention_maps([[[1.0, 0.0], [0.5, 0.5]]], ["a", "b"]).png()
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps figures of its own"
"""


def test_drawing_needs_no_pyplot_and_nothing_is_imported_early() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_facade_leads_to_this_room() -> None:
    for name in (
        "loss_curve",
        "vital_signs",
        "attention_maps",
        "tensor_table",
        "memory_table",
        "training_diagram",
    ):
        assert getattr(lab, name).__module__.startswith("cllm_lab.views.")
        assert name in dir(lab)
