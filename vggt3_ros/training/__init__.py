"""Training of small networks on procedural rooms: softmax first, then conversion to test-time
training.
"""
