"""From a config.json to the text of a spec."""
