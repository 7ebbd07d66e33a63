"""Whether a written text becomes a record: refusals, duplicates, identifiers, language."""
