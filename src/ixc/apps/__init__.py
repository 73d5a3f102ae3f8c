"""Applications over the inference engine."""
