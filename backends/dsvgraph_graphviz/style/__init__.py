"""How a picture looks: colours, sizes, the shapes of cards, graphviz's HTML-like labels."""
