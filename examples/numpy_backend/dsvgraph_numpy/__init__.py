"""A backend of dsvgraph that is a package of its own: a compiler to numpy, and a renderer of plain text."""
