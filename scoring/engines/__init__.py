"""Where a scorer runs: in this process, or as a pool of Ray actors. Both leave the same journal."""
