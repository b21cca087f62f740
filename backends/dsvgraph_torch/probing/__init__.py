"""Looking inside a trained model: losses and certainty per depth, gradients, experts, norms, acceptance."""
