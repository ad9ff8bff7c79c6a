"""Measurements: `make bench`. Not part of the wheel."""
