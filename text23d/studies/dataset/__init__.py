"""Objects of many prompts as data for others to learn from: posed pictures, depths, normals and meshes."""
