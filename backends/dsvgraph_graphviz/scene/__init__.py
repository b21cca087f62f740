"""The scene: cards, wires, frames and columns, before anything is placed. Other formats build on it."""
