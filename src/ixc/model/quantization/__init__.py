"""Quantized weights in 8 or 4 bits: layers, loading, conversion of a folder."""
