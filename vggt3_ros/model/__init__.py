"""The network: VGG-T3 (arXiv 2602.23361) and its softmax ancestor VGGT, as one class."""
