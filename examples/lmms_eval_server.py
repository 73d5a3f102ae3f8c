"""python examples/lmms_eval_server.py URL IMAGE QUESTION: a running `ixc serve` through the OpenAI model of lmms-eval.

Whole benchmarks, with the data sets lmms-eval fetches:

    python -m lmms_eval --model openai --tasks docvqa_val --batch_size 1 \
        --model_args model=nano,base_url=http://127.0.0.1:8000/v1,api_key=none,timeout=600,num_concurrent=4
"""

import sys

from lmms_eval.api.instance import Instance
from lmms_eval.models.chat.openai import OpenAICompatible
from PIL import Image

TASK, SPLIT = "mine", "test"


def main(url: str, path: str, question: str) -> None:
    """One document of a task of one's own, on its way as lmms-eval sends it."""
    model = OpenAICompatible(model="nano", base_url=f"{url}/v1", api_key="none", timeout=600, num_concurrent=1)
    with Image.open(path) as image:
        model.task_dict = {TASK: {SPLIT: [{"image": image.convert("RGB"), "question": question}]}}

    def messages(document: dict) -> list:
        parts = [{"type": "image", "url": document["image"]}, {"type": "text", "text": document["question"]}]
        return [{"role": "user", "content": parts}]

    arguments = (question, messages, {"max_new_tokens": 32, "temperature": 0}, 0, TASK, SPLIT)
    asked = Instance(
        request_type="generate_until",
        arguments=arguments,
        idx=0,
        metadata={"task": TASK, "doc_id": 0, "repeats": 1},
    )
    print(model.generate_until([asked])[0].text)


main(*sys.argv[1:])
