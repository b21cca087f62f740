"""Models and the language as text: specs, signatures, the reference, the JSON Schema."""
