"""What `vggt3 bench gpu` does: steps that measure a card, one module each, and what runs them
within some minutes.
"""
