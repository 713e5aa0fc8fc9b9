"""The judge: a classifier that never saw the prior's training objects, and says what a picture shows."""
