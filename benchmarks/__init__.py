"""Measurements: `make bench`. Each figure is a ratio to a baseline of the same run."""
