"""What moves the weights of a module: optimizers over float32 weights, their settings by path, averages of weights."""
