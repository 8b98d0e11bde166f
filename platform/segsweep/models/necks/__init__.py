"""Parts between backbone and head: pyramid in, pyramid of one width out."""
