"""Procedural worlds: what the built-in priors and judges are trained on."""
