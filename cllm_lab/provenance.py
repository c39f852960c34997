"""What a stored result was made with: the machine and the versions."""

import os
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("numpy", "numba", "scipy")


def provenance() -> dict[str, dict[str, Any]]:
    """``machine`` (system, processor, cores, python) and ``versions`` of `PACKAGES`, in JSON's types."""
    return {
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in PACKAGES},
    }
