"""The families: one file each, with the fields of its config.json and the template of its spec."""
