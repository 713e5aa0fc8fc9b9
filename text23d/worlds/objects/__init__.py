"""The procedural toy box: captioned 3-D objects and their pictures, which the built-in prior learns from."""
