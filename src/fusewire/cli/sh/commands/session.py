"""The session: cd, pwd, help, exit."""

from __future__ import annotations

from ..registry import COMMANDS, Options, Run, UsageError, command


@command("cd [DIRECTORY]", "go to a directory: / when none is named, - for the one before", most=1)
def cd(run: Run, options: Options, words: list[str]) -> None:
    path = words[0] if words else "/"
    here = run.process.getcwd()
    run.process.chdir(run.previous if path == "-" else path)
    run.previous = here
    run.keep = True


@command("pwd", "the working directory", most=0)
def pwd(run: Run, options: Options, words: list[str]) -> None:
    run.print(run.process.getcwd())


@command("help [COMMAND]...", "what there is")
def help(run: Run, options: Options, words: list[str]) -> None:
    unknown = [word for word in words if word not in COMMANDS]
    if unknown:
        raise UsageError(f"there is no command {unknown[0]!r}")
    for word in words:
        run.print(f"{COMMANDS[word].usage}\n    {COMMANDS[word].summary}")
    if not words:
        for name in sorted(COMMANDS):
            run.print(f"{name:10}{COMMANDS[name].summary}")
        run.print(
            "; and newline end a command, && goes on if it went well, > and >> write its output into a file. Quotes"
        )
        run.print("are sh's; * ? [...] match names of the filesystem. Ctrl-C ends the command that runs.")


@command("exit [STATUS]", "leave; with the status of the first command that failed, if none is given", most=1)
def exit(run: Run, options: Options, words: list[str]) -> None:
    if words and not words[0].isdecimal():
        raise UsageError(f"{words[0]!r} is no exit status: 0 to 255")
    run.leave = True
    run.status = int(words[0]) & 0xFF if words else -1
