"""The section `loss`: its lines, their formulas, and what they predict."""
