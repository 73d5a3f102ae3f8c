"""Losses of the language model: answers, and the auxiliary ones that supervise attention and hidden states."""
