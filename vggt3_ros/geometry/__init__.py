"""Stateless maths on tensors: rigid and similarity transforms, cameras, point clouds."""
