"""Warnings: what a spec says in vain."""
