"""What the mapper is made of."""
