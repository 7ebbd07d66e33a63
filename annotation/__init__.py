"""People's answers turned into gold. Imports `schemas` only."""
