"""The formats of pictures: graphviz's files, SVG, Mermaid, Model Explorer."""
