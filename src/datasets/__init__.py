"""Data sets: one file each, typed returns, splits fixed by a hash of the item and never by order."""
