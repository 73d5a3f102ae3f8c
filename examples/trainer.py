"""The Trainer of transformers on conversations: `python examples/trainer.py DATA.jsonl OUT [STEPS] [FOLDER]`."""

import sys
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments

import ixc
from ixc.data.records import JsonLines, Record

data, out, *more = sys.argv[1:]
folder = more[1] if len(more) > 1 else str(Path(ixc.__file__).parent / "pretrained" / "nano")
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)


def collate(records: list[Record]) -> dict:
    """Conversations, their pictures and labels as one batch."""
    return dict(processor.encode_training([record.messages for record in records]))


settings = TrainingArguments(
    output_dir=out,
    max_steps=int(more[0]) if more else 100,
    per_device_train_batch_size=2,
    learning_rate=1e-4,
    logging_steps=1,
    remove_unused_columns=False,  # the collator makes the columns
    report_to="none",
)
trainer = Trainer(model=model, args=settings, train_dataset=JsonLines(Path(data)), data_collator=collate)
trainer.train()
trainer.save_model(out)
processor.save_pretrained(out)
print(out)
