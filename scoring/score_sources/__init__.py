"""Guards whose probabilities come from elsewhere: a server's own numbers, or a model's classification head."""
