"""Text from trained models: sampling, caches, drafts."""
