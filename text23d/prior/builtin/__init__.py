"""The prior that ships with the package: its network, its words, its training and its weights."""
