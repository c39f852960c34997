"""From evidence to the name of a fault: exercises and finite differences."""
