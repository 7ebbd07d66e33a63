"""The procedures of arXiv 2511.22312 as published, for comparison only."""
