"""What the help says about the Machine screen."""

INTRODUCTION = (
    "What the machine that trains is busy with, and where the time of a step goes.\n\n"
    "What the machine that trains is busy with, which may be another one than that of this terminal. In a container, "
    "the memory and the cores are those that it may use. “This run” is the engine with the processes that load "
    "images for it.\n\n"
    "The bar at the top shows where the time of a step goes: waiting for images, copying them to the device, computing "
    "the step, and evaluating and saving in between. A GPU that waits for images wants more workers, smaller images, "
    "or images that are kept in memory; one that computes all the time is used well.\n\n"
    "A run that several processes train (ranks, one a device) has a line for each. All of them take the same steps, so "
    "one that is slow shows by working, or waiting for images, while the others wait for it, which counts as "
    "communicating: it is marked. Their weights are compared now and then; a difference is an alert that names the "
    "tensor. “Heard” is how long ago a rank gave a sign of life.\n\n"
    "Each graph goes from 0 to 100%, that of the disk to the largest rate in sight. A GPU's frame tells its "
    "memory, temperature, power and clock, and who else is on it. All of it is kept in the run's journal, in less "
    "detail the longer the run."
)
