"""The top floor: config, the stages, the command line."""
