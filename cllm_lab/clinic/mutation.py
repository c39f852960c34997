"""Testing tests: which of them go red when a fault is planted, and which on a sound machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.subject import listed
from cllm_lab.model.parameters import Array

SOUND = "sound"


@dataclass(frozen=True, repr=False)
class MutationTable:
    """``red`` (tests, machines), bool: whether a test failed on a machine; the first machine is the sound one."""

    tests: tuple[str, ...]
    machines: tuple[str, ...]
    red: Array

    @property
    def false_alarms(self) -> tuple[str, ...]:
        """The tests that are red on the sound machine."""
        return tuple(test for test, row in zip(self.tests, self.red, strict=True) if row[0])

    @property
    def never_red(self) -> tuple[str, ...]:
        """The tests that no machine fails."""
        return tuple(test for test, row in zip(self.tests, self.red, strict=True) if not row.any())

    def caught_by(self, test: str) -> tuple[str, ...]:
        """The planted faults on which a test is red. Raises ValueError for a test that is not in the table."""
        if test not in self.tests:
            raise ValueError(f"no test {test!r}; the tests are {', '.join(self.tests)}")
        row = self.red[self.tests.index(test)]
        return tuple(name for name, red in zip(self.machines[1:], row[1:], strict=True) if red)

    @property
    def missed(self) -> tuple[str, ...]:
        """The planted faults on which every test without a false alarm is green."""
        trusted = self.red[~self.red[:, 0]]
        caught: Array = np.asarray(trusted.any(axis=0))
        return tuple(name for name, found in zip(self.machines[1:], caught[1:], strict=True) if not found)

    def __repr__(self) -> str:
        n = len(self.machines) - 1
        lines = []
        for test in self.tests:
            note = ", and the sound machine too" if test in self.false_alarms else ""
            lines.append(f"{test}: red on {len(self.caught_by(test))} of {n} planted faults{note}")
        if self.missed:
            lines.append(f"caught by no test without a false alarm: {listed(self.missed)}")
        return "\n".join(lines)


def mutation_table(
    make: Callable[[tuple[str, ...]], Any], tests: Mapping[str, Callable[[Any], bool]], faults: Sequence[str]
) -> MutationTable:
    """Tries every test on a sound machine and on one machine for each planted fault (mutation testing: DeMillo, Lipton
    & Sayward 1978, Computer 11).

    ``make``: ids of faults -> a machine with them, () for none; called anew for every trial, so that no test sees
    what another left behind. ``tests``: machine -> whether it passes. An ArithmeticError, such as `NonFiniteError`,
    fails a test; every other error comes through.

    Raises ValueError for no test, no fault or one planted twice, TypeError for a verdict that is no bool.
    """
    planted = tuple(faults)
    if not tests or not planted or len(set(planted)) != len(planted):
        raise ValueError(
            f"give at least one test and one fault, each fault once; got {len(tests)} tests and {planted}"
        )
    columns: list[tuple[str, ...]] = [(), *((fault,) for fault in planted)]
    red = [[not _passes(name, test, make(machine)) for machine in columns] for name, test in tests.items()]
    return MutationTable(tuple(tests), (SOUND, *planted), np.array(red))


def _passes(name: str, test: Callable[[Any], bool], machine: Any) -> bool:
    try:
        verdict = test(machine)
    except ArithmeticError:
        return False
    if not isinstance(verdict, bool | np.bool_):
        raise TypeError(f"test {name!r} must give True or False; got {verdict!r}")
    return bool(verdict)
