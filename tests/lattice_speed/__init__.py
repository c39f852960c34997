"""What the lattice does for speed: `python -m tests.lattice_speed` measures it, in four minutes; pytest does not."""
