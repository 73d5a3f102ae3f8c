"""Training data of the embedded model: pages of real documents, windows of them, drawn text."""
