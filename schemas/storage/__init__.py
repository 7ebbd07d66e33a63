"""Files, folders, journals, locks and YAML: all reading and writing on disk."""
