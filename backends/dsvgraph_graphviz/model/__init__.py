"""What a picture says of a model before anything is drawn: roles, layers, sizes, shares, differences."""
