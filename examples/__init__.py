"""Examples: each machine in one file, its effects beside it."""
