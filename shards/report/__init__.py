"""`report.html`: a dataset to look at, in one file; its pieces also make the pages of `shards.serve`."""
