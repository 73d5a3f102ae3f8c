"""The paper's findings about resolution and layout, reproduced on a scaled geometry.

pages (drawn from a number) -> views (setting and partition) -> vision encoder (trained once) -> pool (stored features)
pages as glyph tokens -> language model (trained once, then the start of every run)
variant and seed: new merge, projector, newline and separator, trained on the pool with the language model -> scores
scores of all runs (JSON) -> report (docs/findings.md)
"""
