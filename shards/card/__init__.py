"""What is stated of a dataset: the numbers, the words, the card, Croissant, and whether they are true."""
