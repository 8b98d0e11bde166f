"""Data sets: sources on disk, Arrow shards, transforms and loaders."""
