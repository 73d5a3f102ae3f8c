"""Pages set by Typst whose keys, values and cells are known by construction."""
