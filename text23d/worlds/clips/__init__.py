"""Clips of the toy box: things that turn, move, hop, come closer and go away."""
