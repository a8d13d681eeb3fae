"""What the viewer shows."""
