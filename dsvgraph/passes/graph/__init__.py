"""What follows from the wiring of a graph: dependencies, paths, what decoding keeps, where values come from."""
