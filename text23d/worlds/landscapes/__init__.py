"""The procedural landscapes: captioned surroundings and crops of them, which a built-in prior learns from."""
