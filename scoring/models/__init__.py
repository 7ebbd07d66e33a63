"""Where next-token probabilities come from: a model on this machine, or an endpoint."""
