"""The experiment: variants of a run side by side at equal cost, their figures, one table and one picture."""
