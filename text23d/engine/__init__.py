"""The engine: what is put together from the rooms, the loop around the method's step, and what a run leaves."""
