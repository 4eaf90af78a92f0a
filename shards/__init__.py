"""Writing, reading and accounting for WebDataset shards; the whole-dataset build lives here."""
