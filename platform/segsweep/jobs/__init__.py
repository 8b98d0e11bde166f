"""Jobs: what a user writes in YAML, checked and run."""
