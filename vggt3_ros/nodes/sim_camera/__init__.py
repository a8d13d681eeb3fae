"""What the simulated camera is made of."""
