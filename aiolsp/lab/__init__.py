"""The lab: a program and its twin run before the reader's eyes, on one explained timeline."""
