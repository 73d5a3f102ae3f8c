"""Training data: read and validate conversations, mix sources, encode records, pack them into batches.

file or table --records, hf_datasets--> Record --validation--> usable records --mixture--> SampledRecord
SampledRecord --encoding--> ids, labels, tiles --batching--> packs of an optimiser step
"""
