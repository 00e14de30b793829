"""What is served, in which state, and by which processes."""
