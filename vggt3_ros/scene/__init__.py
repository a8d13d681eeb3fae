"""What a reconstruction leaves behind, and how it is stored. Fast weights are mere named tensors
here.
"""
