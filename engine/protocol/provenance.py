"""Where the results of a run come from: code, command, packages, machine and data."""

import msgspec


class GitState(msgspec.Struct, frozen=True, kw_only=True):
    """The `commit` (hex) that the repository around `folder` is at.

    `changed` tells whether files that it tracks differ from that commit; None: git took too long to say.
    """

    folder: str
    commit: str
    changed: bool | None = None

    @property
    def short(self) -> str:
        """The commit for people: 12 digits, and whether there are changes."""
        return self.commit[:12] + {True: " with changes", False: "", None: ", changes not known"}[self.changed]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine knows of itself when it begins to train a run, or goes on with it.

    `command` is the command line in `folder`, what looks like a secret replaced by `***`; `git` the repositories that
    this folder and a person's own code are in. `packages` are versions by name, `driver` is that of the GPU, `data` a
    SHA-256 of the images' names and sizes, or labels, in all parts (empty: not known).
    """

    command: tuple[str, ...] = ()
    folder: str = ""
    git: tuple[GitState, ...] = ()
    packages: dict[str, str] = {}
    system: str = ""
    device: str = ""
    driver: str = ""
    data: str = ""


def differences(then: Provenance, now: Provenance) -> list[str]:
    """Return in what the two differ that the last digits may depend on: `torch 2.10 then, 2.14 now`."""
    found = [
        f"{name} {then.packages[name]} then, {now.packages[name]} now"
        for name in sorted(then.packages.keys() & now.packages.keys())
        if then.packages[name] != now.packages[name]
    ]
    commits = {state.folder: state for state in then.git}
    for state in now.git:
        before = commits.get(state.folder)
        if before is not None and (before.commit, before.changed) != (state.commit, state.changed):
            found.append(f"the code in {state.folder} at {before.short} then, {state.short} now")
    for name, unit in (("device", ""), ("driver", "driver "), ("data", "data ")):
        before_, now_ = getattr(then, name), getattr(now, name)
        if before_ and now_ and before_ != now_:
            found.append(f"{unit}{before_[:60]} then, {now_[:60]} now")
    return found
