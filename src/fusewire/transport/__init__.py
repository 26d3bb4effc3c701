"""How messages travel between the halves: /dev/fuse, sockets, in process. Readers and writers live here."""
