"""The paper's findings about resolution and layout, tried again on a scaled geometry.

pages (drawn from a number) -> views (setting and rule) -> eyes (tower, once) ---> pool (its features, stored)
pages as symbols -> hand (language model, once)                                         |
a variant and a seed: merge, projector, newline and separator anew, on the pool, with the hand -> scores (JSON)
scores of all runs -> report (docs/findings.md)
"""
