"""Pages set by Typst and charts drawn by matplotlib whose keys, values and cells are known by construction."""
