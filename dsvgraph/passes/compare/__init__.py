"""Comparisons of models: two line by line, many settings of one, all beside published figures."""
