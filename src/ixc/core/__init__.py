"""Pure Python that everything rests on: where tiles go, the order of tokens, the prompt format."""
