"""The losses of a model in the emitted file."""
