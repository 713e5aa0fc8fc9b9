"""Denoisers made of denoisers, and networks of other conventions seen as D(x; sigma, c)."""
