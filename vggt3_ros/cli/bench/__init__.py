"""The command `vggt3 bench`: a module for each kind, and what measures; in gpu/ the steps of `bench
gpu`.
"""
