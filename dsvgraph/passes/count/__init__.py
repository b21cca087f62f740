"""Counts: parameters, FLOPs and cache, in numbers and formulas."""
