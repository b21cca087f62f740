"""Measuring the compiled model: the time of a step and of its blocks, memory, decoding, other libraries beside it."""
