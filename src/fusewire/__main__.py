"""``python -m fusewire`` is the ``fusewire`` command."""

from .cli import main

main(prog_name="fusewire")
