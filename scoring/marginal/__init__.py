"""The search over a guard's answers, and the estimators and bounds that are read from it."""
