"""Models and the language as text: specs, summaries, the reference, the JSON Schema."""
