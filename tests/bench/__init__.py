"""How fast the training step is, beside what a user would pick instead. `make bench` runs it; pytest does not."""
