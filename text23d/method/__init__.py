"""The patent's figures 1A-2B, one file a box; `step` holds the arrows."""
