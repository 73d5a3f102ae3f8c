"""Ask the embedded model, or one of your own, about a picture: `python examples/ask.py PICTURE QUESTION [FOLDER]`."""

import sys

import ixc

picture, question, *folder = sys.argv[1:]
answer = ixc.load(*folder).ask([picture], question)
print(answer.text)
print(f"{answer.image_tokens[0]} image tokens, {answer.seconds:.1f} s", file=sys.stderr)
