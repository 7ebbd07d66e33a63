"""Ground floor: what every artifact looks like, and how it is read and written. Imports nothing of ours."""
