"""Lowering: a graph becomes the source of torch modules, one class for each distinct block."""
