"""The report of a comparison: one page without a network, the same as Markdown, and all of it as JSON."""
