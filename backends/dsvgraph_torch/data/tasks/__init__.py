"""Synthetic tasks with exact answers, one file each; `registry` finds them by name."""
