"""Benchmark of time and memory per answer, relative to the measured limits of the machine.

subject.py (a folder, or a geometry with random weights) -> speed.py (sections) -> result.py (rows, JSON)
machine.py (measured limits), roofline.py (FLOP and bytes of a step) -> shares;  report.py: table, Markdown, SVG
"""
