"""Rules that a whole graph keeps beyond the shapes of its ops: addresses, paths, what is trained, positions."""
