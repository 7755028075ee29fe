"""What the help says about the Machine screen."""

INTRODUCTION = (
    "The load on the training machine, and where the time of a step goes.\n\n"
    "The training machine may not be the one this terminal is on. In a container, memory and cores are what the "
    "container may use. “This run” is the engine and its image-loading processes.\n\n"
    "The bar at the top shows where the time of a step goes: waiting for images, copying them to the device, computing "
    "the step, and evaluating and saving in between. A GPU that waits for images needs more workers, smaller images, "
    "or images cached in memory; one that computes all the time is well used.\n\n"
    "A run trained by several processes (ranks, one per device) has a line for each. All of them take the same steps: "
    "a slow one is computing, or waiting for images, while the others wait for it, which counts as communicating. It "
    "is marked as slowest. Their weights are compared from time to time; a difference raises an alert that names the "
    "tensor. “heartbeat” is how long ago a rank last reported.\n\n"
    "Each graph goes from 0 to 100%, the disk's up to the highest rate shown. A GPU's frame shows its memory, "
    "temperature, power and clock, and which other processes use it. All of this is saved in the run's journal, in "
    "less detail the longer the run."
)
