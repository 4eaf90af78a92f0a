"""The shard format: samples, the tars they lie in, the index that is the truth about both. `shards.read` reads it."""
