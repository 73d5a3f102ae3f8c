"""The embedded model trained from nothing: data, stages, one training loop."""
