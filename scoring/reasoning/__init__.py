"""Guards that write a reasoning passage before their answer: passages are sampled, answers are computed exactly."""
