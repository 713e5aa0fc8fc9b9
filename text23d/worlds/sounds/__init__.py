"""Sounds: instruments that play notes, chords, melodies and beats, at a tempo, in a register, and so loud."""
