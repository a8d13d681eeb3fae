"""What `vggt3 demo` and `vggt3 bench graph` run the nodes with: processes, cameras, recordings, a
client.
"""
