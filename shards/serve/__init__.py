"""`python -m shards serve`: a dataset as a small site on this machine, for those too large for one report file."""
