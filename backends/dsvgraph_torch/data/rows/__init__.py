"""Documents as rows of equal length: their tokens in pieces, packing, and the files that keep them."""
