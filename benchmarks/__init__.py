"""Benchmarks: figures beside what they are held against, measured in one run. `python -m benchmarks --help`."""
