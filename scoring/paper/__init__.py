"""The procedures of arXiv 2511.22312, for comparison only."""
