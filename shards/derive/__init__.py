"""Datasets made of datasets: merged, split by person, and small ones to show around."""
