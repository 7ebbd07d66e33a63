"""The paper's table and ours beside it, on the user's labelled records."""
