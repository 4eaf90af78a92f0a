"""Training identity adapters from finished shards; may import `shards.sample`, `shards.read`, `shards.index` only."""
