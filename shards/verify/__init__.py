"""Everything that is wrong with a dataset: its tars, its samples, what stands beside them."""
