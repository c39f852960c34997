"""What the lattice report found, as a table of Markdown."""

from __future__ import annotations

from typing import Any

from cllm_lab.trials.result import Ablation

SAID = {
    "better": "**{effect}** better",
    "worse": "**{effect}** worse",
    "no difference shown": "{effect}",
    "identical": "identical",
    "diverged": "diverged",
}


def lattice_summary(found: Ablation) -> str:
    """A row an arm: its effect on each corpus at equal steps, a step's time over the baseline's, and what is its own.

    Effects in nats, arm minus baseline, with a word where the corrected verdict shows one. The last column names the
    corpora on which the arm is better than the baseline and than every control that it has.
    """
    controls = {arm["name"] for arm in found.data["settings"]["arms"] if arm["control_of"]}
    rows: dict[str, dict[str, Any]] = {}
    for row in found.data["rows"]:
        if row["arm"] not in controls:
            rows.setdefault(row["arm"], {})[row["corpus"]] = row
    against: dict[str, dict[str, list[str]]] = {}
    for pair in found.data["controls"]:
        against.setdefault(pair["arm"], {}).setdefault(pair["corpus"], []).append(pair["verdict"])
    corpora = list(dict.fromkeys(row["corpus"] for row in found.data["rows"]))
    lines = [
        f"| arm | {' | '.join(corpora)} | a step's time | better than its controls too |",
        "|---" * (len(corpora) + 3) + "|",
    ]
    for arm, on in rows.items():
        effects = " | ".join(_effect(on[corpus]) for corpus in corpora)
        times = sorted(row["cost"] for row in on.values())
        own = _own(on, against.get(arm))
        lines.append(f"| {arm} | {effects} | {times[0]:.2f} to {times[-1]:.2f} | {own} |")
    return "\n".join(lines)


def _effect(row: dict[str, Any]) -> str:
    effect = "" if row["effect"] is None else f"{row['effect']:+.3f}"
    return SAID[row["verdict"]].format(effect=effect)


def _own(on: dict[str, Any], against: dict[str, list[str]] | None) -> str:
    if against is None:
        return "no control"
    own = [corpus for corpus, row in on.items() if {row["verdict"], *against[corpus]} == {"better"}]
    return ", ".join(own) or "nowhere"
