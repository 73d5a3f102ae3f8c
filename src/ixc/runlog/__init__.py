"""The record of a run: JSONL log, progress, trackers, recipe files."""
