"""What the lattice does for speed: `python -m tests.lattice_speed` measures it, on a quiet machine; pytest does not."""
