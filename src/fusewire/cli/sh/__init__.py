"""``fusewire sh``: a small shell on any filesystem, with no mount.

``parser`` makes commands of text, ``globs`` paths of patterns, ``commands`` is what can be done, ``shell`` runs them, each as a
process of its own on our kernel half, ``signals`` ends them, ``interactive`` is the terminal's side.
"""

from .command import sh

__all__ = ["sh"]
