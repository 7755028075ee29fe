"""What an evaluation said of each image: the file, and selecting from it. Torch is not needed."""
