"""Hugging Face's config.json and model folders: in as a spec, out as what transformers loads."""

from .importer import spec_of

__all__ = ["spec_of"]
