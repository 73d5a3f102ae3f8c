"""TRL's SFTTrainer with LoRA on conversations: `python examples/trl_sft.py DATA.jsonl OUT [STEPS] [FOLDER]`."""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer

from ixc.data.records import JsonLines

data, out, *more = sys.argv[1:]
folder = more[1] if len(more) > 1 else "src/ixc/pretrained/nano"
model, processor = (auto.from_pretrained(folder) for auto in (AutoModelForImageTextToText, AutoProcessor))
records = JsonLines(Path(data))

settings = SFTConfig(
    output_dir=out,
    max_steps=int(more[0]) if more else 100,
    per_device_train_batch_size=2,
    learning_rate=1e-3,
    bf16=torch.cuda.is_available(),
    logging_steps=1,
    max_length=None,  # a cut picture is no picture
    remove_unused_columns=False,
    dataset_kwargs={"skip_prepare_dataset": True},
    report_to="none",
)
trainer = SFTTrainer(
    model=model,
    args=settings,
    train_dataset=Dataset.from_dict({"line": list(range(len(records)))}),
    data_collator=lambda rows: dict(processor.encode_training([records[row["line"]].messages for row in rows])),
    processing_class=processor,
    peft_config=LoraConfig(r=8, lora_alpha=8, target_modules=r".*language_model\..*\.base"),
)
trainer.train()
trainer.save_model(out)
