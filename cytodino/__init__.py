"""CytoDINO: edge deployment of DINOv3 bone-marrow cell classifiers."""

__version__ = "0.1.0"
