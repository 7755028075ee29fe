"""What the help says about the Runs screen, and about runs side by side."""

RUNS = (
    "All runs in this folder: live ones first, then the newest; each finetune is below the run it started from.\n\n"
    "★ marks the best of the runs that were evaluated on the same images.\n\n"
    "A filter is one or more of name, state, live, best, last, test, epoch, epochs, step, lr, batch, optimizer, "
    "schedule, seed, recipe, model, data, part, started, took, size, parent, tag and note, with : (contains), = != < "
    "<= > or >= and a value: lr>0.01 model:resnet18 best>98% tag:keep -state:crashed. A word alone is searched in "
    "name, data, model, tags and note; - negates a condition."
)
COMPARED = (
    "The marked runs side by side.\n\n"
    "Curves: one color per run; training values are means, and the cursor reads all runs in all plots. Settings: only "
    "those that differ. Scores: each run's best evaluation and, for each pair on the same images, McNemar's test: p is "
    "the probability of counts at least this unequal if both were equally good. Errors: what one run of a pair gets "
    "right and the other does not; Enter shows the images."
)
