"""What an audit says of a tensor, in a few words. Knows no widget."""

from finetui.engine.protocol.audit import Audit, AuditedTensor
from finetui.engine.text import clean
from finetui.tui.state.layer_tree import scientific

HEADING = ("tensor", "claims", "moved", "gradient", "optimizer")


def cells(tensor: AuditedTensor) -> tuple[str, str, str, str, str]:
    """Return what stands under `HEADING`."""
    return clean(tensor.name, 200), _claim(tensor), "yes" if tensor.moved else "no", gradient(tensor), optimizer(tensor)


def _claim(tensor: AuditedTensor) -> str:
    return "frozen" if tensor.frozen else "buffer" if tensor.buffer else "trains"


def gradient(tensor: AuditedTensor) -> str:
    """Return the largest magnitude of the gradient, or what it is instead."""
    if tensor.gradient == "some" and tensor.largest is not None:
        return scientific(tensor.largest)
    return tensor.gradient or "-"


def optimizer(tensor: AuditedTensor) -> str:
    """Return the optimizer with its learning rate, momentum and weight decay."""
    if not tensor.optimizer:
        return "-" if tensor.buffer else "none"
    words = [clean(tensor.optimizer, 30)]
    words += [f"lr {tensor.rate:.3g}"] if tensor.rate is not None else []
    words += [f"m {'/'.join(f'{one:.3g}' for one in tensor.momentum)}"] if any(tensor.momentum) else []
    words += [f"wd {tensor.weight_decay:g}"] if tensor.weight_decay else []
    return " ".join(words)


def reasons_by_name(found: Audit) -> dict[str, tuple[str, bool]]:
    """Return what there is to say about each tensor or module (and the training: empty), and whether it is wrong."""
    reasons: dict[str, tuple[str, bool]] = {}
    for finding in found.findings:
        before, wrong = reasons.get(finding.name, ("", False))
        reasons[finding.name] = ("; ".join(filter(None, (before, finding.reason))), wrong or finding.wrong)
    return reasons


def paths_of_wrong(found: Audit) -> frozenset[str]:
    """Return the paths of the modules that something is wrong in, and of tensors of the model's own, for which it is.

    The empty path, the model itself, is among them wherever anything is wrong.
    """
    modules = {tensor.name: tensor.module or tensor.name for tensor in found.tensors}
    paths: set[str] = set()
    for finding in found.wrong:
        path = modules.get(finding.name, finding.name)
        pieces = path.split(".")
        paths |= {".".join(pieces[:count]) for count in range(len(pieces) + 1)}
    return frozenset(paths)


def within(found: Audit, path: str) -> tuple[AuditedTensor, ...]:
    """Return the tensors of the module (or the tensor) at `path`, those that are wrong first."""
    reasons = reasons_by_name(found)
    inside = [t for t in found.tensors if not path or f"{t.name}.".startswith(f"{path}.")]
    return tuple(sorted(inside, key=lambda tensor: not reasons.get(tensor.name, ("", False))[1]))
