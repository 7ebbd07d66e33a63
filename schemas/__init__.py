"""The contents of every file, and how it is read and written. Imports nothing else of this project."""
