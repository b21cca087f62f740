"""Weights between folders of safetensors and modules."""
