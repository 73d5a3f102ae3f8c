"""The embedded model, trained from nothing: data, stages and losses of its recipe."""
