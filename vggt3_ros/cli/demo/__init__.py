"""The command `vggt3 demo`."""
