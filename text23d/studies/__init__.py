"""Studies: many runs, their figures, tables and pictures."""
