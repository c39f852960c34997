"""Trials: paired comparisons of machines, each with a learning rate of its own, with what the comparison can tell."""
