"""The Auto classes of transformers on a folder: `python examples/auto_classes.py FOLDER PICTURE QUESTION`."""

import sys

from transformers import AutoModelForImageTextToText, AutoProcessor

import ixc  # noqa: F401 - makes the Auto classes know the model

folder, picture, question = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
content = [{"type": "image", "path": picture}, {"type": "text", "text": question}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
)
output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(processor.decode_answer(output[0, inputs["input_ids"].shape[1] :]))
