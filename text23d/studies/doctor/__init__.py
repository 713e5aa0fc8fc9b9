"""Whether the main job would run here, and how fast: checks of the machine and of the installation."""
