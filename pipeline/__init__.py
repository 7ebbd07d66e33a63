"""Config, stages and command line."""
