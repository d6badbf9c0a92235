"""Whole case studies, callable from a chapter, from the command line and from `accelerate launch`."""
