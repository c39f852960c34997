"""Settings that every test shares."""

import os
from importlib.util import find_spec

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# No example fails for its duration: a shared machine is slow at times. CI draws the same ones each time.
settings.register_profile("cllm_lab", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("cllm_lab")

# What needs more than the extra test has a target of its own: `make parity`, `make test-browser`.
NEEDS = {"parity": "torch", "browser": "playwright"}
collect_ignore = [folder for folder, package in NEEDS.items() if find_spec(package) is None]
