"""Stage import: existing data sets become records of a run, by a mapping of their columns and label values."""
