"""Commands that report on a model."""
