"""What is made: an object or a picture, and all that depends on which of them it is."""
