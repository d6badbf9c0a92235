"""Features of text, image and audio."""
