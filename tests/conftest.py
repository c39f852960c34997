"""Settings that every test shares."""

import os
from importlib.util import find_spec

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# No example fails for its duration: a shared machine is slow at times. CI draws the same ones each time.
settings.register_profile("cllm_lab", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("cllm_lab")

# The comparison with PyTorch has an environment of its own: `make parity`.
collect_ignore = [] if find_spec("torch") else ["parity"]
