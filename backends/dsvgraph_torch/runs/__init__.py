"""The folder of a training run: its checkpoints, its lock, and what may stand in its files."""
