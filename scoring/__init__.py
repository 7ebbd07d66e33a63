"""A guard model's answer turned into one probability per label. Imports `schemas` only."""
