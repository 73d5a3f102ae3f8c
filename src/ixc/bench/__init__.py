"""What an answer costs: time and memory, measured side by side with what the machine can do at most.

subject.py (a folder, or a geometry with random weights) -> speed.py (sections) -> result.py (rows, JSON)
machine.py (ceilings, names), work.py (FLOP and bytes of a step) -> shares;  report.py: table, Markdown, SVG
"""
