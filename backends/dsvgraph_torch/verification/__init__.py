"""Verification: what torch counts while a compiled module runs, beside what the cost counts."""
