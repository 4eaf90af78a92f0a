"""The copy of a dataset that is published: what goes, stripped to what may be seen; sending it to the Hub."""
