"""`marginalia compare`: two runs side by side."""
