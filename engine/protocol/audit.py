"""What an audit found: which tensors of a network are frozen, which train, and which do not do what they claim."""

from typing import Literal

import msgspec

GradientKind = Literal["", "none", "zero", "some", "not finite"]


class AuditedTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter or buffer of a network over the steps of an audit, by its full name in the module `module`.

    `frozen` is what it claims to be, `moved` whether a bit of it changed. `gradient` is that of all steps together, and
    `largest` its largest magnitude in any; empty and None for buffers. `optimizer` is the class of the one that has it,
    empty where none has; `rate` the highest learning rate of the steps. `momentum` are the optimizer's betas where it
    has such, `moments` the names of what it keeps for the tensor. `shared` are other names of the same tensor.
    """

    name: str
    module: str = ""
    buffer: bool = False
    shape: tuple[int, ...] = ()
    dtype: str = ""
    frozen: bool = False
    moved: bool = False
    gradient: GradientKind = ""
    largest: float | None = None
    optimizer: str = ""
    rate: float | None = None
    momentum: tuple[float, ...] = ()
    moments: tuple[str, ...] = ()
    weight_decay: float = 0.0
    shared: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is odd about the tensor or module called `name` (empty: about the training as a whole), as a sentence.

    `wrong`: it claims to be frozen and moves, claims to train and does not, or spoils the training; otherwise it is
    only worth knowing.
    """

    name: str
    reason: str
    wrong: bool = True


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of all `tensors` over `steps` steps of the optimizer. `str()` gives the findings as lines."""

    steps: int
    tensors: tuple[AuditedTensor, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(finding for finding in self.findings if finding.wrong)

    def __str__(self) -> str:
        return "\n".join([self.verdict(), *(f"{names}: {reason}" for names, reason, _ in self.grouped())])

    def verdict(self) -> str:
        """Return in a line how many of the tensors are as they claim."""
        steps = f"{self.steps:,} step{'' if self.steps == 1 else 's'}"
        frozen = sum(tensor.frozen for tensor in self.tensors)
        whole = f"{len(self.tensors):,} tensors over {steps}, {frozen:,} of them frozen"
        names = {finding.name for finding in self.wrong}
        return f"{whole}: {f'{len(names):,} wrong' if names else 'all as they claim'}"

    def grouped(self, most: int = 4) -> list[tuple[str, str, bool]]:
        """Return (names, reason, whether it is wrong) of each reason, faults first; of many names the first `most`."""
        names: dict[tuple[str, bool], list[str]] = {}
        for finding in sorted(self.findings, key=lambda finding: not finding.wrong):
            names.setdefault((finding.reason, finding.wrong), []).append(finding.name or "the training")
        return [(_listed(found, most), reason, wrong) for (reason, wrong), found in names.items()]


def _listed(names: list[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:most])} and {more:,} more"
