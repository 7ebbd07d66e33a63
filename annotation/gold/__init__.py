"""From annotators' answers to gold labels, agreement and splits."""
