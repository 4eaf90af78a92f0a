"""How good what a run makes is: pictures of people by prompt, measured. Knows no method by name."""
