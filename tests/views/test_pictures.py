"""The README's picture: both machines, the file, and its size."""

import math
from pathlib import Path

from PIL import Image

from cllm_lab.views.pictures import VOCAB_SIZE, readme_picture

LARGEST_BYTES = 60_000


def test_one_is_pinned_and_one_learns(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    healthy, pinned = readme_picture(path, epochs=2).split("\n")
    assert healthy.startswith("Xavier weights: starts at ") and " falls, " in healthy
    assert pinned == f"all weights zero: stays at {math.log(VOCAB_SIZE):.2f} nats, which is ln V."
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width <= 1000
    assert path.stat().st_size < LARGEST_BYTES
