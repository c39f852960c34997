"""What the live bench costs and how soon it answers, in real kernels. `make bench-live` runs it; pytest does not."""
