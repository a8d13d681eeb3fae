"""Maps that live: scenes merged with each other and extended by new images. A scene is never
changed; what comes of it is a new one.
"""
