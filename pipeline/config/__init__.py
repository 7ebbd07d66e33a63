"""config.yaml: its sections, and the descriptions of its keys."""
