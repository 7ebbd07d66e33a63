"""`marginalia demo`: every stage on this machine. Imported by its command only."""
