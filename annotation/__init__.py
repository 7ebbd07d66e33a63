"""Annotation: records go to Argilla, and the answers become gold. Imports only `marginalia.schemas`."""
