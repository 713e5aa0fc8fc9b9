"""The evaluation: what is scored (samples, runs, the world itself), the figures, and their table."""
