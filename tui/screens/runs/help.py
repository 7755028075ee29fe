"""What the help says about the Runs screen, and about runs side by side."""

RUNS = (
    "All runs of this folder, live ones first, then the newest, each finetune below the run that it started from.\n\n"
    "★ marks the best of those that were evaluated on the same images.\n\n"
    "A filter is one or more of name, state, live, best, last, test, epoch, epochs, step, lr, batch, optimizer, "
    "schedule, seed, recipe, model, data, part, started, took, size, parent, tag and note, with : (contains), = != < "
    "<= > or >= and a value: lr>0.01 model:resnet18 best>98% tag:keep -state:crashed. A word alone is looked for in "
    "name, data, model, tags and note; - turns one round."
)
COMPARED = (
    "The marked runs side by side.\n\n"
    "Curves: a colour for each run; training values are means, and the cursor reads all runs in all plots. Settings: "
    "only those that differ. Scores: each run's best evaluation and, for each pair on the same images, McNemar's test: "
    "p is the probability, were both equally good, of counts at least as unequal. Errors: what one of a pair gets "
    "right and the other does not; Enter shows the images."
)
