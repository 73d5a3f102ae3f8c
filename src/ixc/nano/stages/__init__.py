"""The stages of training from nothing, in the order they run."""
