"""The catalogue of broken parts: each fault is the swap of a slot of the machine, declared with its evidence."""

from cllm_lab.faults.catalogue import catalogue
from cllm_lab.faults.fault import Fault, Scenario
from cllm_lab.faults.historical import historical, historical_states

__all__ = ["Fault", "Scenario", "catalogue", "historical", "historical_states"]
