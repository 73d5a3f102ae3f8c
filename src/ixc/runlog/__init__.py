"""What a run writes down: JSONL log, progress and ETA, trackers; and the reader of recipe files."""
