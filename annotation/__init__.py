"""People's answers turned into gold. Imports `marginalia.schemas` only."""
