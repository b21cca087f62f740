"""From a graph to a config.json and a folder that transformers loads."""
