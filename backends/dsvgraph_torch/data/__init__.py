"""What a model is trained on: tokens, texts, prepared files, tasks, and the batches that they become."""
