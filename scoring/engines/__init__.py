"""Where scoring runs: in this process, on Ray actors, or in shards. All write the same journal."""
