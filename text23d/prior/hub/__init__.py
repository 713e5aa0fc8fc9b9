"""Priors with an open vocabulary, loaded through diffusers."""
