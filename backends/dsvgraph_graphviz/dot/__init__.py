"""From a scene to DOT, and what makes graphviz put cards in columns and rows."""
