"""Single pictures of the prior by Algorithm 1 and by Heun's sampler, and their distance from the world."""
