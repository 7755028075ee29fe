"""What is frozen is computed once: the features of every image, and the rest of the network that trains on them."""
