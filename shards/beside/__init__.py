"""What stands beside the shards: what became of every photo, who is in it, the settings of the build, the version."""
