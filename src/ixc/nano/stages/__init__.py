"""Stages of the embedded model's training, each a task of `ixc.nano.loop`."""
