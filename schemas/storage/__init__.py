"""All reading and writing on disk: files, folders, journals, locks and YAML."""
