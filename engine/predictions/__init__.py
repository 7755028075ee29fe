"""What an evaluation said of each test image: the file, and selecting from it. Torch is not needed."""
