"""Looking at a trained network: evaluating, explaining, layer by layer, classifying."""
