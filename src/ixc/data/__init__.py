"""Data: what conversations to learn from look like, whether they are fit, how they become batches; `synth/` draws some.

file or table --conversations, tables--> Record --check--> usable --mixture--> Draw --batches--> packs of a step
                                            encode: ids, labels, tiles
"""
