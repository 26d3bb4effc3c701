"""``mount.fuse.fusewire``: what mount(8) runs for ``mount -t fuse.fusewire`` and for fstab.

Called as ``mount.fuse.fusewire SOURCE MOUNTPOINT [-o OPTIONS] [-sfnv]``. SOURCE is what ``fusewire mount`` takes before the
mountpoint, with ``#`` where a blank would stand: ``memory``, ``passthrough#/srv/data``, ``package.module:factory``.
"""

from __future__ import annotations

import os

import click

from ..linux import MountError, MountOptions
from .mount import mount


@click.command()
@click.argument("source")
@click.argument("mountpoint")
@click.option("-o", "options", multiple=True)
@click.option("-s", "sloppy", is_flag=True, help="Leave unknown options out.")
@click.option("-f", "fake", is_flag=True, help="Do everything but mount.")
@click.option("-n", "_no_mtab", is_flag=True)
@click.option("-v", "_verbose", is_flag=True)
@click.pass_context
def main(
    context: click.Context,
    source: str,
    mountpoint: str,
    options: tuple[str, ...],
    sloppy: bool,
    fake: bool,
    _no_mtab: bool,
    _verbose: bool,
) -> None:
    """Mount helper of mount(8) for the type fuse.fusewire."""
    words = [word for group in options for word in group.split(",") if word]
    if os.geteuid() != 0:  # who mounts, as mount(8) tells us when it is an ordinary user
        words = [word for word in words if not word.startswith("user=")]
    if sloppy:
        known = []
        for word in words:
            try:
                MountOptions.parse(word)
            except MountError:
                continue
            known.append(word)
        words = known
    if fake:
        try:
            MountOptions.parse(",".join(words))
        except MountError as error:
            raise click.ClickException(str(error)) from None
        return
    filesystem = (*source.split("#"), mountpoint)
    context.invoke(mount, filesystem=filesystem, foreground=False, options=(",".join(words),), trace=False)
