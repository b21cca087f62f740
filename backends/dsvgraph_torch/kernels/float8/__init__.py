"""Products of 8-bit numbers (E4M3) with a float32 scale for each tile, as DeepSeek-V3 trains (arXiv 2412.19437, 3.3).

A product's left factor has tiles of 1 x 128 along the contraction, weights have tiles of 128 x 128; the gradient of a
weight multiplies tiles of 1 x 128 along the tokens. Results are in the numbers of the input.
"""
