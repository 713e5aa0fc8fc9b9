"""Numerical kernels: one readable torch twin per compiled operation, the backend chosen once. Call them by `ops`."""
