"""What a run hands over: a mesh for Blender, a turntable video, a contact sheet."""
