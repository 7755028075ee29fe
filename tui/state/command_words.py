"""Commands in the words of the buttons."""

from finetui.engine.protocol import commands
from finetui.engine.text import clean


def describe_command(command: commands.AnyCommand) -> str:
    """Return what a person asked for, in the words of the buttons."""
    match command:
        case commands.Start() | commands.Pause() | commands.Resume() | commands.Stop():
            return type(command).__name__.lower()
        case commands.StepOnce():
            return "step once"
        case commands.SetLearningRate():
            return f"learning rate {command.value:g}"
        case commands.SetFrozen():
            names = ", ".join(map(clean, (*command.groups, *command.layers)))
            return f"{'freeze' if command.frozen else 'unfreeze'} {names}"
        case commands.SetFrozenNorm():
            return f"{'update' if command.trains else 'keep'} statistics of frozen norm layers"
        case commands.ChangeTraining():
            return f"new settings, {command.training.epochs} epochs"
        case commands.StartFinetune():
            return f"finetune ({clean(command.plan.recipe, 40)})"
        case commands.PreviewFinetune():
            return "preview"
        case commands.FetchImages():
            return "show images"
        case commands.ExplainImage():
            return clean(command.method, 40)
        case commands.FindDuplicates():
            return "find duplicates"
        case commands.DescribeModel() | commands.MeasureLayers():
            return "describe the layers"
        case commands.AuditParameters():
            return "audit the parameters"
        case commands.ViewLayer():
            return f"look into {clean(command.layer)}"
        case commands.FindLearningRate():
            return "find learning rate"
        case commands.Evaluate():
            return f"evaluate {clean(command.part)}".strip()
        case commands.NoteTest():
            what = f"{command.n:,} test images, {command.accuracy:.2%} correct with {clean(command.checkpoint, 100)}"
            return f"{clean(command.use, 40)}: {what}"
        case commands.Save():
            return f"save as {clean(command.name)}" if command.name else "save"
        case commands.RollBack():
            slower = f" at LR x{command.rate_factor:g}" if command.rate_factor != 1 else ""
            return f"roll back to {clean(command.checkpoint)}{slower}"
        case commands.Branch():
            return f"branch from {clean(command.checkpoint)}"
