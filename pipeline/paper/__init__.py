"""`marginalia paper`: the paper's table and ours, on the user's labelled records."""
