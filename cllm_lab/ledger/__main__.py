"""``python -m cllm_lab.ledger [NAME ...]``: runs the experiments, all without a name, and stores data/claims.json.

With names, the other experiments keep their stored figures.
"""

from __future__ import annotations

import sys

from cllm_lab.ledger import store
from cllm_lab.ledger.experiments import EXPERIMENTS
from cllm_lab.resources import data_path


def main(names: list[str]) -> None:
    """Runs the named experiments, all where none is named, and stores what they measured."""
    kept = dict(store.measurements()) if names else {}
    try:
        found = store.measure(names or EXPERIMENTS)
    except ValueError as unknown:
        raise SystemExit(str(unknown)) from unknown
    print(store.write({**kept, **found}, data_path("README.md").parent))


if __name__ == "__main__":
    main(sys.argv[1:])
