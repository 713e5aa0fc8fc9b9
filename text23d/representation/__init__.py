"""What is optimised, phi: it renders views to picture space and hands out its parameters (contracts.Representation)."""
