"""Small helpers without knowledge of models: devices, lazy imports, files, SVG."""
