"""config.yaml: its sections, and its keys explained."""
