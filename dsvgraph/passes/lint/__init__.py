"""Warnings: parts of a spec that have no effect, and losses that train nothing."""
