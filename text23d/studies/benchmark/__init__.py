"""How fast the kernels, the networks and an iteration are, and what of it the machine would allow."""
