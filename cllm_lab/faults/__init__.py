"""The catalogue of broken parts: each fault is the swap of a slot of the machine, declared with its evidence."""

from cllm_lab.faults.catalogue import catalogue
from cllm_lab.faults.fault import Fault, Scenario

__all__ = ["Fault", "Scenario", "catalogue"]
