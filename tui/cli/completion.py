"""`finetui completion`: the script by which a shell completes commands, options, runs and known values."""

from collections.abc import Callable
from typing import Literal

from cyclopts import App
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from finetui.engine.errors import BadInput, reason_of

Shell = Literal["bash", "zsh", "fish"]
# bash would take RUN:CHECKPOINT for three words.
_ALWAYS: dict[Shell, str] = {"bash": "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"}
# zsh ties a script to its command by where the file lies, unless it is told.
_SOURCED: dict[Shell, str] = {
    "zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\ncompdef _cyclopts_finetui finetui\n"
}


def completion_for(app: App) -> Callable[..., int]:
    """Return the command that prints or installs the completion of `app`."""

    def completion(shell: Shell | None = None, /, *, install: bool = False) -> int:
        """Print the shell script that completes finetui's commands, options, runs and values.

        For this session: source <(finetui completion bash), or in fish: finetui completion fish | source. For all new
        sessions: finetui completion --install

        Parameters
        ----------
        shell
            bash, zsh or fish (default: the current shell).
        install
            Write it where the shell looks for it instead, with a line in its startup file if needed.
        """
        chosen = shell or _this_shell()
        if not install:
            print(app.generate_completion(shell=chosen) + _SOURCED.get(chosen, "") + _ALWAYS.get(chosen, ""))
            return 0
        try:
            path = app.install_completion(shell=chosen)
            with path.open("a", encoding="utf-8") as script:
                script.write(_ALWAYS.get(chosen, ""))
        except OSError as error:
            raise BadInput(f"the completion cannot be installed: {error.filename}: {reason_of(error)}") from error
        print(f"{path} completes finetui in every new {chosen}")
        return 0

    return completion


def _this_shell() -> Shell:
    try:
        found = detect_shell()
    except ShellDetectionError:
        found = "powershell"  # of none of the three, neither
    if found == "powershell":
        raise BadInput("cannot tell which shell this is; name it: finetui completion bash (or zsh, or fish)")
    return found
