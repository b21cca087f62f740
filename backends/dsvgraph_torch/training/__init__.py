"""Training: data, steps, progress, and text from what was trained."""
