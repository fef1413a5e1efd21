"""What is PyPI's alone: disclosure of one person's events, and a database of its shape to try everything on."""
