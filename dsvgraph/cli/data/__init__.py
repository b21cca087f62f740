"""Prepare data for training, and show what a model is trained on."""
