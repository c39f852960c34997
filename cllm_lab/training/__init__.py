"""Training: optimizer steps and runs of them, their records, checkpoints, and text from the result."""
