"""The live bench: a trainer in a thread, its controls, its pictures."""
