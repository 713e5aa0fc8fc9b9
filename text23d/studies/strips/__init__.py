"""Ways of making what is longer than a prior's examples, beside each other: panoramas, videos and sounds."""
