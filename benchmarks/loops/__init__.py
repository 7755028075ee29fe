"""The same training (LeNet on the full MNIST) by finetui, by hand, and by those whom it is compared with.

Each module has `train(data_dir, batch_size, epochs) -> list[float]`: the seconds that each epoch's training steps took,
evaluation and saving not counted. `python -m benchmarks.loops NAME ...` runs one and prints them as JSON.
"""

LR, MOMENTUM = 0.001, 0.9  # the tutorial's
MEAN, STD = 0.1307, 0.3081
