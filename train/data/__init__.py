"""From shards to batches: identity groups, leave-one-out, and every random choice as a function of a counter."""
