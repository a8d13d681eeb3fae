"""What the localizer is made of."""
