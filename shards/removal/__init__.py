"""Taking people and photos out of a finished dataset, for good."""
